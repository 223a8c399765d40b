// Training: the two costly parts of a Temporal Fusion Transformer, forward and backward, for float32 on a processor.
//
// Single-variable networks of a variable selection with their weighted sum, 16 rows (window x step) a vector; and the
// attention of a decoder on everything before each of its steps, 16 steps a vector. Nothing of the inside is kept
// between forward and backward: it is worked out again.

#include "vectors.h"

#include <cmath>
#include <cstring>
#include <vector>

constexpr int H = HIDDEN, C = CONTINUOUS, G = 2 * H;
constexpr int GROUPS = 16;  // vectors of rows between two updates of the gradient sums

INLINE float total(vec x) {
    float sum = 0;
    for (int l = 0; l < LANES; l++) sum += x[l];
    return sum;
}

INLINE vec load(const float *from) {
    vec x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store(float *to, vec x) { std::memcpy(to, &x, sizeof x); }

struct Network {  // parameters or gradients of one real's network; `inner` is used with dropout only
    float *slope, *offset, *inner, *inner_bias, *gate, *gate_bias, *residual, *variance, *scale, *shift;
};

// Uniform bits for element i of row group g: a keep mask with the kept scaled up.
INLINE vec keep(uint32_t seed, uint32_t group, uint32_t variable, uint32_t element, float dropped) {
    ivec lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    typedef uint32_t uvec __attribute__((vector_size(64)));
    uvec x = (uvec)lane + group * 16u;
    x = x * 0x9E3779B1u + seed;
    x ^= x >> 16;
    x = (x + variable * 0x85EBCA77u) * 0x7FEB352Du;
    x ^= x >> 15;
    x = (x + element * 0xC2B2AE3Du) * 0x846CA68Bu;
    x ^= x >> 16;
    uint32_t limit = (uint32_t)((double)dropped * 4294967296.0);
    return (x >= limit) ? splat(1.0f / (1.0f - dropped)) : splat(0.0f);
}

struct Inside {  // of one vector of rows
    vec first[C], mask[C], deep[C], gated[G], gate[H], normal[H], inverse, deviation;
};

INLINE void inside(const Network &w, vec x, float dropped, uint32_t seed, uint32_t group, uint32_t variable, Inside &m) {
    for (int i = 0; i < C; i++) m.first[i] = elu(x * w.slope[i] + w.offset[i]);
    const vec *deep = m.first;
    if (dropped > 0) {
        affine<C, C>(w.inner, w.inner_bias, m.first, m.deep);
        for (int i = 0; i < C; i++) m.deep[i] *= m.mask[i] = keep(seed, group, variable, i, dropped);
        deep = m.deep;
    }
    affine<C, G>(w.gate, w.gate_bias, deep, m.gated);
    m.deviation = reciprocal_root((w.variance[0] * x + w.variance[1]) * x + w.variance[2]);
    vec scaled = x * m.deviation, mean, u[H];
    for (int o = 0; o < H; o++) {
        m.gate[o] = sigmoid(m.gated[H + o]);
        u[o] = m.gated[o] * m.gate[o] + scaled * w.residual[o] + m.deviation * w.residual[H + o] + w.residual[2 * H + o];
    }
    moments<H>(u, mean, m.inverse);
    for (int o = 0; o < H; o++) m.normal[o] = (u[o] - mean) * m.inverse;
}

// sums[i][o] += sum over the groups of left[i] right[o]; the groups' vectors are `wide` apart.
template <int IN, int WIDTH>
INLINE void outer(const vec *left, const vec *right, int groups, vec *sums) {
    constexpr int A = 4, B = 4;
    static_assert(IN % A == 0 && WIDTH % B == 0, "sizes are multiples of four");
    for (int i = 0; i < IN; i += A)
        for (int o = 0; o < WIDTH; o += B) {
            vec sum[A * B];
#pragma GCC unroll 16
            for (int k = 0; k < A * B; k++) sum[k] = sums[(i + k / B) * WIDTH + o + k % B];
            for (int g = 0; g < groups; g++) {
                const vec *l = left + g * IN + i, *r = right + g * WIDTH + o;
#pragma GCC unroll 16
                for (int k = 0; k < A * B; k++) sum[k] += l[k / B] * r[k % B];
            }
#pragma GCC unroll 16
            for (int k = 0; k < A * B; k++) sums[(i + k / B) * WIDTH + o + k % B] = sum[k];
        }
}

static Network of(float *const *arrays, int v) {
    static const int sizes[] = {C, C, C * C, C, C * G, G, 3 * H, 3, H, H};
    Network network;
    float **fields[] = {&network.slope, &network.offset,    &network.inner,    &network.inner_bias, &network.gate,
                        &network.gate_bias, &network.residual, &network.variance, &network.scale,      &network.shift};
    for (int k = 0; k < 10; k++) *fields[k] = arrays[k] ? arrays[k] + (int64_t)v * sizes[k] : nullptr;
    return network;
}

// `x`, `shares` and `out` are [V, rows] and [H, rows]; rows a multiple of 16.
extern "C" void reals_forward(float *const *arrays, int64_t variables, int64_t rows, const float *x, const float *shares,
                              float dropped, uint32_t seed, float *out) {
    Inside m;
    for (int64_t row = 0; row < rows; row += LANES) {
        vec sum[H];
        for (int o = 0; o < H; o++) sum[o] = splat(0);
        for (int64_t v = 0; v < variables; v++) {
            Network w = of(arrays, v);
            inside(w, load(x + v * rows + row), dropped, seed, row / LANES, v, m);
            vec share = load(shares + v * rows + row);
            for (int o = 0; o < H; o++) sum[o] += share * (m.normal[o] * w.scale[o] + w.shift[o]);
        }
        for (int o = 0; o < H; o++) store(out + o * rows + row, sum[o]);
    }
}

struct Sums {
    vec slope[C], offset[C], inner[C * C], inner_bias[C], gate[C * G], gate_bias[G], residual[3 * H], variance[3];
    vec scale[H], shift[H];
};

struct Block {
    vec first[GROUPS * C], deep[GROUPS * C], inner[GROUPS * C], gated[GROUPS * G];
};

INLINE void backward_group(const Network &w, vec x, vec share, const vec *gradient, float dropped, uint32_t seed,
                           uint32_t group, uint32_t variable, Inside &m, Sums &s, Block &b, int g, vec *share_gradient) {
    inside(w, x, dropped, seed, group, variable, m);
    vec of_share = splat(0), mean = splat(0), along = splat(0), du[H];
    for (int o = 0; o < H; o++) {
        vec y = m.normal[o] * w.scale[o] + w.shift[o], dy = share * gradient[o];
        of_share += gradient[o] * y;
        s.scale[o] += dy * m.normal[o];
        s.shift[o] += dy;
        du[o] = dy * w.scale[o];
        mean += du[o];
        along += du[o] * m.normal[o];
    }
    *share_gradient = of_share;
    mean *= 1.0f / H;
    along *= 1.0f / H;
    vec scaled = x * m.deviation, of_deviation = splat(0), *dg = b.gated + g * G;
    for (int o = 0; o < H; o++) {
        vec d = m.inverse * (du[o] - mean - m.normal[o] * along);
        s.residual[o] += scaled * d;
        s.residual[H + o] += m.deviation * d;
        s.residual[2 * H + o] += d;
        of_deviation += d * (x * w.residual[o] + w.residual[H + o]);
        dg[o] = d * m.gate[o];
        dg[H + o] = d * m.gated[o] * m.gate[o] * (1.0f - m.gate[o]);
    }
    vec of_variance = -0.5f * m.deviation * m.deviation * m.deviation * of_deviation;
    s.variance[0] += of_variance * x * x;
    s.variance[1] += of_variance * x;
    s.variance[2] += of_variance;
    for (int o = 0; o < G; o++) s.gate_bias[o] += dg[o];
    vec back[C];
    for (int i = 0; i < C; i++) {
        vec sum = splat(0), other = splat(0);
        for (int o = 0; o < G; o += 2) {
            sum += w.gate[i * G + o] * dg[o];
            other += w.gate[i * G + o + 1] * dg[o + 1];
        }
        back[i] = sum + other;
        b.first[g * C + i] = m.first[i];
    }
    if (dropped > 0) {
        vec *di = b.inner + g * C;
        for (int i = 0; i < C; i++) {
            b.deep[g * C + i] = m.deep[i];
            di[i] = back[i] * m.mask[i];
            s.inner_bias[i] += di[i];
        }
        for (int i = 0; i < C; i++) {
            back[i] = splat(0);
            for (int o = 0; o < C; o++) back[i] += w.inner[i * C + o] * di[o];
        }
    }
    for (int i = 0; i < C; i++) {
        vec d = back[i] * (m.first[i] > 0.0f ? splat(1) : m.first[i] + 1.0f);
        s.slope[i] += d * x;
        s.offset[i] += d;
    }
}

// `gradient` is [H, rows]; gradients of the arrays and of `shares` are written.
extern "C" void reals_backward(float *const *arrays, int64_t variables, int64_t rows, const float *x, const float *shares,
                               float dropped, uint32_t seed, const float *gradient, float *share_gradients,
                               float *const *gradients) {
    static const int sizes[] = {C, C, C * C, C, C * G, G, 3 * H, 3, H, H};
    std::vector<vec> room((sizeof(Sums) + sizeof(Block)) / sizeof(vec));
    Sums &s = *reinterpret_cast<Sums *>(room.data());
    Block &b = *reinterpret_cast<Block *>(room.data() + sizeof(Sums) / sizeof(vec));
    Inside m;
    for (int64_t v = 0; v < variables; v++) {
        Network w = of(arrays, v);
        std::memset(&s, 0, sizeof s);
        for (int64_t from = 0; from < rows; from += GROUPS * LANES) {
            int groups = (int)((rows - from < GROUPS * LANES ? rows - from : GROUPS * LANES) / LANES);
            for (int g = 0; g < groups; g++) {
                int64_t row = from + g * LANES;
                vec of_share, d[H];
                for (int o = 0; o < H; o++) d[o] = load(gradient + o * rows + row);
                backward_group(w, load(x + v * rows + row), load(shares + v * rows + row), d, dropped, seed,
                               row / LANES, v, m, s, b, g, &of_share);
                store(share_gradients + v * rows + row, of_share);
            }
            outer<C, G>(dropped > 0 ? b.deep : b.first, b.gated, groups, s.gate);
            if (dropped > 0) outer<C, C>(b.first, b.inner, groups, s.inner);
        }
        const vec *sums = reinterpret_cast<const vec *>(&s);
        for (int k = 0; k < 10; sums += sizes[k++])
            if (gradients[k])
                for (int i = 0; i < sizes[k]; i++) gradients[k][v * sizes[k] + i] = total(sums[i]);
    }
}

// Attention of step i of `ahead` on steps 0..past+i-1 of `steps`; a head has D dimensions.
constexpr int HEADS = ATTENTION_HEADS, D = H / HEADS;

static void columns(const float *from, int64_t steps, int64_t padded, int64_t stride, float *to) {  // [steps, D] to [D, padded]
    for (int64_t t = 0; t < padded; t++)
        for (int d = 0; d < D; d++) to[d * padded + t] = t < steps ? from[t * stride + d] : 0.0f;
}

INLINE vec before(vec x, int64_t first, int64_t limit, float otherwise) {
    ivec lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (lane + (int32_t)first) < (int32_t)limit ? x : splat(otherwise);
}

// query [batch, ahead, H], key [batch, steps, H], value [batch, steps, D]; out [batch, ahead, HEADS, D],
// logsum [batch, ahead, HEADS] for the way back.
extern "C" void attention_forward(const float *query, const float *key, const float *value, int64_t batch, int64_t ahead,
                                  int64_t steps, float scale, float *out, float *logsum) {
    int64_t past = steps - ahead, padded = (steps + LANES - 1) / LANES * LANES;
    std::vector<vec> room((2 * D + 1) * padded / LANES);
    float *k = reinterpret_cast<float *>(room.data()), *v = k + D * padded, *scores = v + D * padded;
    for (int64_t b = 0; b < batch; b++) {
        columns(value + b * steps * D, steps, padded, D, v);
        for (int head = 0; head < HEADS; head++) {
            columns(key + b * steps * H + head * D, steps, padded, H, k);
            for (int64_t i = 0; i < ahead; i++) {
                const float *q = query + (b * ahead + i) * H + head * D;
                int64_t limit = past + i;
                vec most = splat(-3e38f), sum = splat(0), mixed[D];
                for (int64_t t = 0; t < limit; t += LANES) {
                    vec score = splat(0);
                    for (int d = 0; d < D; d++) score += (q[d] * scale) * load(k + d * padded + t);
                    score = before(score, t, limit, -3e38f);
                    store(scores + t, score);
                    most = score > most ? score : most;
                }
                float top = most[0];
                for (int l = 1; l < LANES; l++) top = most[l] > top ? most[l] : top;
                for (int d = 0; d < D; d++) mixed[d] = splat(0);
                for (int64_t t = 0; t < limit; t += LANES) {
                    vec e = before(exponential(load(scores + t) - top), t, limit, 0.0f);
                    sum += e;
                    for (int d = 0; d < D; d++) mixed[d] += e * load(v + d * padded + t);
                }
                float all = total(sum);
                int64_t at = (b * ahead + i) * HEADS + head;
                for (int d = 0; d < D; d++) out[at * D + d] = total(mixed[d]) / all;
                logsum[at] = top + std::log(all);
            }
        }
    }
}

extern "C" void attention_backward(const float *query, const float *key, const float *value, int64_t batch, int64_t ahead,
                                   int64_t steps, float scale, const float *out, const float *logsum,
                                   const float *gradient, float *query_gradient, float *key_gradient,
                                   float *value_gradient) {
    int64_t past = steps - ahead, padded = (steps + LANES - 1) / LANES * LANES;
    std::vector<vec> room(4 * D * padded / LANES);
    float *k = reinterpret_cast<float *>(room.data()), *v = k + D * padded, *dk = v + D * padded, *dv = dk + D * padded;
    for (int64_t b = 0; b < batch; b++) {
        columns(value + b * steps * D, steps, padded, D, v);
        std::memset(dv, 0, sizeof(float) * D * padded);
        for (int head = 0; head < HEADS; head++) {
            columns(key + b * steps * H + head * D, steps, padded, H, k);
            std::memset(dk, 0, sizeof(float) * D * padded);
            for (int64_t i = 0; i < ahead; i++) {
                int64_t at = (b * ahead + i) * HEADS + head, limit = past + i;
                const float *q = query + (b * ahead + i) * H + head * D, *g = gradient + at * D;
                float along = 0;
                for (int d = 0; d < D; d++) along += g[d] * out[at * D + d];
                vec dq[D];
                for (int d = 0; d < D; d++) dq[d] = splat(0);
                for (int64_t t = 0; t < limit; t += LANES) {
                    vec score = splat(0), dp = splat(0);
                    for (int d = 0; d < D; d++) {
                        score += (q[d] * scale) * load(k + d * padded + t);
                        dp += g[d] * load(v + d * padded + t);
                    }
                    vec p = before(exponential(score - logsum[at]), t, limit, 0.0f);
                    vec ds = p * (dp - along) * scale;
                    for (int d = 0; d < D; d++) {
                        dq[d] += ds * load(k + d * padded + t);
                        store(dk + d * padded + t, load(dk + d * padded + t) + ds * q[d]);
                        store(dv + d * padded + t, load(dv + d * padded + t) + p * g[d]);
                    }
                }
                for (int d = 0; d < D; d++) query_gradient[(b * ahead + i) * H + head * D + d] = total(dq[d]);
            }
            for (int64_t t = 0; t < steps; t++)
                for (int d = 0; d < D; d++) key_gradient[(b * steps + t) * H + head * D + d] = dk[d * padded + t];
        }
        for (int64_t t = 0; t < steps; t++)
            for (int d = 0; d < D; d++) value_gradient[(b * steps + t) * D + d] = dv[d * padded + t];
    }
}
