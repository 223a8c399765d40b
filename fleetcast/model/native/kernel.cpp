// The forward pass of a Temporal Fusion Transformer for prediction, 16 windows a vector, streaming over time.
//
// Sizes are macros, weights one flat array in the order of `struct Weights` (made by weights.py), so a compiled file
// serves every bundle of the same sizes. All arrays are float32; a vector holds the same number of 16 windows.

#include "vectors.h"

constexpr int H = HIDDEN, C = CONTINUOUS, HEADS = ATTENTION_HEADS, DK = H / HEADS, OUT = OUTPUTS;

template <int V, int WORDS, int ROWS>
struct Selection {  // V reals, WORDS categoricals (0 or 1) with ROWS rows
    static constexpr int K = V + WORDS, k = K < H ? K : H;
    float hidden[V][k], hidden_table[WORDS * ROWS][k], residual[V][K], residual_bias[K], residual_table[WORDS * ROWS][K];
    float residual_scale[K], residual_shift[K], gate[k][2 * K], gate_bias[2 * K], scale[K], shift[K];
    float table[WORDS * ROWS][H];
    struct {
        float slope[C], offset[C], gate[C][2 * H], gate_bias[2 * H], residual[3][H], variance[3], scale[H], shift[H];
    } real[V];

    // `shared` of the first reals have their outputs in `known` [shared][H], the same for all windows.
    void apply(const vec *x, const int32_t *codes, const vec *context, int shared, const float *known, vec *out) const {
        vec hot[WORDS * ROWS + 1];
        bool any[WORDS * ROWS + 1];
        for (int r = 0; r < WORDS * ROWS; r++) {
            any[r] = false;
            for (int l = 0; l < LANES; l++) {
                hot[r][l] = codes[l] == r;
                any[r] |= codes[l] == r;
            }
        }
        vec deep[k], straight[K], gated[2 * K], weight[K];
        product<V, k>(&hidden[0][0], x, deep, [&](int o) { return context[o]; });
        product<V, K>(&residual[0][0], x, straight, [&](int o) { return splat(residual_bias[o]); });
        for (int r = 0; r < WORDS * ROWS; r++)
            if (any[r]) {
                for (int o = 0; o < k; o++) deep[o] += hot[r] * hidden_table[r][o];
                for (int o = 0; o < K; o++) straight[o] += hot[r] * residual_table[r][o];
            }
        for (int o = 0; o < k; o++) deep[o] = elu(deep[o]);
        affine<k, 2 * K>(&gate[0][0], gate_bias, deep, gated);
        glu<K>(gated, weight);
        norm<K>(residual_scale, residual_shift, straight);
        for (int o = 0; o < K; o++) weight[o] += straight[o];
        norm<K>(scale, shift, weight);
        vec most = weight[0], sum = splat(0);
        for (int o = 1; o < K; o++) most = weight[o] > most ? weight[o] : most;
        for (int o = 0; o < K; o++) sum += weight[o] = exponential(weight[o] - most);
        sum = reciprocal(sum);
        for (int o = 0; o < H; o++) out[o] = splat(0);
        for (int r = 0; r < WORDS * ROWS; r++)
            if (any[r]) {
                vec share = weight[0] * hot[r] * sum;
                for (int o = 0; o < H; o++) out[o] += share * table[r][o];
            }
        for (int v = 0; v < shared; v++) {
            vec share = weight[WORDS + v] * sum;
            for (int o = 0; o < H; o++) out[o] += share * known[v * H + o];
        }
        for (int v = shared; v < V; v++) add_real(v, x[v], weight[WORDS + v] * sum, out);
    }

    __attribute__((noinline)) void add_real(int v, vec x, vec share, vec *out) const {
        const auto &r = real[v];
        vec deep[C], gated[2 * H], u[H], mean, inverse;
        for (int i = 0; i < C; i++) deep[i] = elu(x * r.slope[i] + r.offset[i]);
        affine<C, 2 * H>(&r.gate[0][0], r.gate_bias, deep, gated);
        vec deviation = reciprocal_root((r.variance[0] * x + r.variance[1]) * x + r.variance[2]), scaled = x * deviation;
        for (int o = 0; o < H; o++)
            u[o] = gated[o] * sigmoid(gated[H + o]) + scaled * r.residual[0][o] + deviation * r.residual[1][o] +
                   r.residual[2][o];
        moments<H>(u, mean, inverse);
        inverse *= share;
        for (int o = 0; o < H; o++) out[o] += (u[o] - mean) * inverse * r.scale[o] + share * r.shift[o];
    }
};

struct Lstm {
    float weight[2 * H][4 * H], bias[4 * H];

    __attribute__((noinline)) void step(vec *input_hidden, vec *cell) const {  // [input, hidden] side by side
        vec gates[4 * H];
        affine<2 * H, 4 * H>(&weight[0][0], bias, input_hidden, gates);
        for (int o = 0; o < H; o++) {
            cell[o] = sigmoid(gates[H + o]) * cell[o] + sigmoid(gates[o]) * tangent(gates[2 * H + o]);
            input_hidden[H + o] = sigmoid(gates[3 * H + o]) * tangent(cell[o]);
        }
    }
};

struct GateNorm {
    float gate[H][2 * H], gate_bias[2 * H], scale[H], shift[H];

    __attribute__((noinline)) void apply(const vec *x, const vec *skip, vec *y) const {
        vec gated[2 * H], found[H];
        affine<H, 2 * H>(&gate[0][0], gate_bias, x, gated);
        glu<H>(gated, found);
        for (int o = 0; o < H; o++) found[o] += skip[o];
        norm<H>(scale, shift, found);
        for (int o = 0; o < H; o++) y[o] = found[o];
    }
};

struct Weights {
    Selection<ENCODER_REALS, ENCODER_WORDS, ENCODER_ROWS> encoder;
    Selection<DECODER_REALS, 0, 0> decoder;
    Lstm past, future;
    GateNorm skip;
    float enrich[H][H];
    GateNorm enriched;
    float query[H][H], query_bias[H], key[H][H], key_bias[H], value[H][DK], value_bias[DK], heads[DK][H];
    GateNorm attended;
    float feed[H][H], feed_bias[H];
    GateNorm fed, output_norm;
    float output[H][OUT], output_bias[OUT];
};

struct Memory {  // of one group of windows; keys and values of all steps
    vec key[STEPS][H], value[STEPS][DK], shares[STEPS], scores[STEPS];
};

// One step of either side up to the enriched state; `local` is what the LSTM left after its skip connection.
template <typename Side>
INLINE void advance(const Weights &w, const Side &side, const Lstm &lstm, const vec *x, const int32_t *codes,
                    const vec *context, const vec *enrichment, int shared, const float *known, vec *state, vec *cell,
                    vec *local, vec *enriched, vec *key, vec *value) {
    vec chosen[H], deep[H];
    side.apply(x, codes, context, shared, known, chosen);
    for (int o = 0; o < H; o++) state[o] = chosen[o];
    lstm.step(state, cell);
    w.skip.apply(state + H, chosen, local);
    product<H, H>(&w.enrich[0][0], local, deep, [&](int o) { return enrichment[o]; });
    for (int o = 0; o < H; o++) deep[o] = elu(deep[o]);
    w.enriched.apply(deep, local, enriched);
    affine<H, H>(&w.key[0][0], w.key_bias, enriched, key);
    affine<H, DK>(&w.value[0][0], w.value_bias, enriched, value);
}

static __attribute__((noinline)) void attend(const Weights &w, Memory &m, const vec *enriched, int steps, vec *mixed) {
    vec query[H], mean[DK];
    affine<H, H>(&w.query[0][0], w.query_bias, enriched, query);
    for (int t = 0; t < steps; t++) m.shares[t] = splat(0);
    for (int head = 0; head < HEADS; head++) {
        const vec *q = query + head * DK;
        vec most = splat(-3e38f), sum = splat(0);
        for (int t = 0; t < steps; t++) {
            vec score = splat(0);
            for (int d = 0; d < DK; d++) score += q[d] * m.key[t][head * DK + d];
            m.scores[t] = score;
            most = score > most ? score : most;
        }
        for (int t = 0; t < steps; t++) sum += m.scores[t] = exponential(m.scores[t] - most);
        sum = reciprocal(sum) * (1.0f / HEADS);
        for (int t = 0; t < steps; t++) m.shares[t] += m.scores[t] * sum;
    }
    for (int d = 0; d < DK; d++) mean[d] = splat(0);
    for (int t = 0; t < steps; t++)
        for (int d = 0; d < DK; d++) mean[d] += m.shares[t] * m.value[t][d];
    product<DK, H>(&w.heads[0][0], mean, mixed, [](int) { return splat(0); });
}

struct Inputs {  // row-major arrays of all windows
    const float *encoder, *decoder;                  // [windows, steps, reals], the network's order
    const int32_t *codes;                            // [windows, encoder steps]
    const float *encoder_context, *decoder_context;  // [windows, k]
    const float *enrichment, *hidden, *cell;         // [windows, H]
    const float *encoder_known, *decoder_known;      // [steps, shared, H]
};

static void gather(const float *from, int64_t first, int64_t last, int64_t stride, int64_t offset, int count, vec *to) {
    for (int l = 0; l < LANES; l++) {
        int64_t row = first + l < last ? first + l : last - 1;
        for (int o = 0; o < count; o++) to[o][l] = from[row * stride + offset + o];
    }
}

extern "C" int64_t weight_count() { return sizeof(Weights) / sizeof(float); }
extern "C" int64_t memory_bytes() { return sizeof(Memory) + 64; }

// `out` is [windows, decoder steps, OUT].
extern "C" void forecast(const float *weights, const Inputs *in, int64_t windows, int64_t encoder_steps,
                         int64_t decoder_steps, int32_t shared, void *memory, float *out) {
    const Weights &w = *reinterpret_cast<const Weights *>(weights);
    Memory &m = *reinterpret_cast<Memory *>((reinterpret_cast<uintptr_t>(memory) + 63) & ~uintptr_t(63));
    constexpr int VE = ENCODER_REALS, VD = DECODER_REALS;
    constexpr int KE = decltype(w.encoder)::k, KD = decltype(w.decoder)::k;
    for (int64_t first = 0; first < windows; first += LANES) {
        vec state[2 * H], cell[H], enrichment[H], encoder_context[KE], decoder_context[KD];
        vec x[VE > VD ? VE : VD], local[H], enriched[H], mixed[H], deep[H], result[OUT];
        int32_t codes[LANES] = {0};
        gather(in->hidden, first, windows, H, 0, H, state + H);
        gather(in->cell, first, windows, H, 0, H, cell);
        gather(in->enrichment, first, windows, H, 0, H, enrichment);
        gather(in->encoder_context, first, windows, KE, 0, KE, encoder_context);
        gather(in->decoder_context, first, windows, KD, 0, KD, decoder_context);
        for (int64_t t = 0; t < encoder_steps; t++) {
            gather(in->encoder, first, windows, encoder_steps * VE, t * VE, VE, x);
            for (int l = 0; l < LANES; l++)
                codes[l] = in->codes[(first + l < windows ? first + l : windows - 1) * encoder_steps + t];
            advance(w, w.encoder, w.past, x, codes, encoder_context, enrichment, shared,
                    in->encoder_known + t * shared * H, state, cell, local, enriched, m.key[t], m.value[t]);
        }
        for (int64_t t = 0; t < decoder_steps; t++) {
            int64_t at = encoder_steps + t;
            gather(in->decoder, first, windows, decoder_steps * VD, t * VD, VD, x);
            advance(w, w.decoder, w.future, x, codes, decoder_context, enrichment, shared,
                    in->decoder_known + t * shared * H, state, cell, local, enriched, m.key[at], m.value[at]);
            attend(w, m, enriched, at, mixed);  // the future up to the step before
            w.attended.apply(mixed, enriched, mixed);
            affine<H, H>(&w.feed[0][0], w.feed_bias, mixed, deep);
            for (int o = 0; o < H; o++) deep[o] = elu(deep[o]);
            w.fed.apply(deep, mixed, mixed);
            w.output_norm.apply(mixed, local, mixed);
            affine<H, OUT>(&w.output[0][0], w.output_bias, mixed, result);
            for (int l = 0; l < LANES && first + l < windows; l++)
                for (int o = 0; o < OUT; o++) out[((first + l) * decoder_steps + t) * OUT + o] = result[o][l];
        }
    }
}
