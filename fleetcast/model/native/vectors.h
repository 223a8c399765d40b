// Vectors of 16 floats and the functions of one: GCC and Clang map them to whatever the processor has.
#pragma once

#include <cstdint>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

typedef float vec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));
constexpr int LANES = 16;
constexpr float EPS = 1e-5f;

#define INLINE static inline __attribute__((always_inline))

INLINE vec splat(float x) { return vec{} + x; }

INLINE vec exponential(vec x) {  // Cephes' expf: |relative error| < 2e-7 between the clamps
    x = x < -87.0f ? splat(-87.0f) : x;
    x = x > 88.0f ? splat(88.0f) : x;
    const vec magic = splat(12582912.0f);
    vec shifted = x * 1.44269504088896341f + magic;
    vec n = shifted - magic;
    vec r = x - n * 0.693359375f - n * -2.12194440e-4f;
    vec p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    ivec scale = (((ivec)shifted) << 23) + 0x3f800000;
    return p * (vec)scale;
}

INLINE vec reciprocal(vec x) {
#ifdef __AVX512F__
    vec guess = (vec)_mm512_rcp14_ps((__m512)x);
    return guess * (2.0f - x * guess);
#else
    return 1.0f / x;
#endif
}

INLINE vec reciprocal_root(vec x) {
#ifdef __AVX512F__
    vec guess = (vec)_mm512_rsqrt14_ps((__m512)x);
    return guess * (1.5f - 0.5f * x * guess * guess);
#else
    vec root;
    for (int l = 0; l < LANES; l++) root[l] = 1.0f / __builtin_sqrtf(x[l]);
    return root;
#endif
}

INLINE vec sigmoid(vec x) { return reciprocal(1.0f + exponential(-x)); }
INLINE vec tangent(vec x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }
INLINE vec elu(vec x) { return x > 0.0f ? x : exponential(x) - 1.0f; }

// y[o] = start[o] + sum over i of w[i][o] x[i], N outputs in registers.
template <int IN, int N, typename Start>
INLINE void block(const float *w, int stride, const vec *x, vec *y, Start start) {
    vec sum[N];
#pragma GCC unroll 16
    for (int o = 0; o < N; o++) sum[o] = start(o);
    for (int i = 0; i < IN; i++) {
        vec xi = x[i];
#pragma GCC unroll 16
        for (int o = 0; o < N; o++) sum[o] += w[i * stride + o] * xi;
    }
#pragma GCC unroll 16
    for (int o = 0; o < N; o++) y[o] = sum[o];
}

template <int IN, int WIDTH, typename Start>
INLINE void product(const float *w, const vec *x, vec *y, Start start) {
    constexpr int full = WIDTH / 16 * 16, rest = WIDTH - full;
    for (int o = 0; o < full; o += 16) block<IN, 16>(w + o, WIDTH, x, y + o, [&](int k) { return start(o + k); });
    if constexpr (rest > 0) block<IN, rest>(w + full, WIDTH, x, y + full, [&](int k) { return start(full + k); });
}

template <int IN, int WIDTH>
INLINE void affine(const float *w, const float *b, const vec *x, vec *y) {
    product<IN, WIDTH>(w, x, y, [&](int o) { return splat(b[o]); });
}

template <int N>
INLINE void glu(const vec *gated, vec *y) {
    for (int o = 0; o < N; o++) y[o] = gated[o] * sigmoid(gated[N + o]);
}

template <int N>
INLINE void moments(const vec *x, vec &mean, vec &inverse) {
    vec sum = splat(0), square = splat(0);
    for (int o = 0; o < N; o++) sum += x[o];
    mean = sum * (1.0f / N);
    for (int o = 0; o < N; o++) square += (x[o] - mean) * (x[o] - mean);
    inverse = reciprocal_root(square * (1.0f / N) + EPS);
}

template <int N>
INLINE void norm(const float *scale, const float *shift, vec *x) {
    vec mean, inverse;
    moments<N>(x, mean, inverse);
    for (int o = 0; o < N; o++) x[o] = (x[o] - mean) * inverse * scale[o] + shift[o];
}
