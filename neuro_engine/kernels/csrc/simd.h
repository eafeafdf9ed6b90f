/* A register of floats, with the compiler's vector extension: one source for AVX-512, AVX2 and NEON. Kernels vectorise
 * over channels and never over a sum, so that all of them give the same bits. */
#ifndef NEURO_ENGINE_SIMD_H
#define NEURO_ENGINE_SIMD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#elif defined(__AVX2__) && defined(__F16C__)
#include <immintrin.h>
#define LANES 8
#elif defined(__aarch64__)
#include <arm_neon.h>
#define LANES 4
#else
#error "expected AVX-512, AVX2 with F16C, or aarch64"
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
typedef vec unaligned_vec __attribute__((aligned(4)));
typedef uint16_t half; /* IEEE binary16, as bits */

INLINE vec splat(float x) { return (vec){0} + x; }
INLINE vec load_float(const float *p) { return *(const unaligned_vec *)p; }
INLINE void store_float(float *p, vec x) { *(unaligned_vec *)p = x; }
INLINE vec blend(mask m, vec a, vec b) { return (vec)((m & (mask)a) | (~m & (mask)b)); }
INLINE vec absolute(vec x) { return (vec)((mask)x & 0x7fffffff); }
INLINE vec positive(vec x) { return blend(x > 0.f, x, splat(0.f)); }

INLINE vec load_half(const half *p) {
#if LANES == 16
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif LANES == 8
    return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#else
    return (vec)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#endif
}

/* Rounds to nearest even. */
INLINE void store_half(half *p, vec x) {
#if LANES == 16
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
#elif LANES == 8
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
#else
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)x)));
#endif
}

/* Binary32 with the 13 bits below binary16 added to by noise and cut off: rounds up with the probability of the
 * remainder, down to binary16's least normal number; below, 13 bits are too few and the result is rounded to nearest.
 * The noise is a hash (Mueller's) of seed and index. */
INLINE vec dither(vec x, uint32_t index, uint32_t seed) {
    typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
    bits h;
    for (int k = 0; k < LANES; k++) h[k] = index + (uint32_t)k;
    h = (h ^ seed) * 0x45d9f3bu;
    h = (h ^ (h >> 16)) * 0x45d9f3bu;
    h = h ^ (h >> 16);
    bits u = (bits)x;
    return (vec)((u + (h & 0x1fff)) & ~0x1fffu);
}

/* One bit for each lane that is not 0 (-0 is 0). */
INLINE uint32_t nonzero_bits(vec x) {
#if LANES == 16
    return _mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_NEQ_UQ);
#elif LANES == 8
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)x, _mm256_setzero_ps(), _CMP_NEQ_UQ));
#else
    static const uint32_t weight[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32((uint32x4_t)(x != splat(0.f)), vld1q_u32(weight)));
#endif
}

/* The first n of LANES at element `at`; what is beyond them is 0 and is not touched in memory. */
INLINE vec load(const void *p, int64_t at, int is_half, int64_t n) {
    if (n >= LANES) return is_half ? load_half((const half *)p + at) : load_float((const float *)p + at);
    if (n <= 0) return splat(0.f);
    if (is_half) {
        half x[LANES] = {0};
        memcpy(x, (const half *)p + at, n * sizeof(half));
        return load_half(x);
    }
    float x[LANES] = {0};
    memcpy(x, (const float *)p + at, n * sizeof(float));
    return load_float(x);
}

INLINE void store(void *p, int64_t at, int is_half, int64_t n, vec value) {
    if (n >= LANES) {
        if (is_half) store_half((half *)p + at, value);
        else store_float((float *)p + at, value);
    } else if (n > 0 && is_half) {
        half x[LANES];
        store_half(x, value);
        memcpy((half *)p + at, x, n * sizeof(half));
    } else if (n > 0) {
        memcpy((float *)p + at, &value, n * sizeof(float));
    }
}

/* Appends the lanes that are not 0, first + lane times `step` and value; writes up to LANES beyond the end. */
INLINE int64_t append_nonzeros(vec x, uint32_t first, uint32_t step, uint32_t *offset, float *value, int64_t k) {
    uint32_t bits = nonzero_bits(x);
#if LANES == 16
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i channel = _mm512_add_epi32(lanes, _mm512_set1_epi32((int)first));
    __m512i scaled = _mm512_mullo_epi32(channel, _mm512_set1_epi32((int)step));
    _mm512_storeu_si512(offset + k, _mm512_maskz_compress_epi32((__mmask16)bits, scaled));
    _mm512_storeu_ps(value + k, _mm512_maskz_compress_ps((__mmask16)bits, (__m512)x));
    return k + __builtin_popcount(bits);
#else
    float lane[LANES];
    store_float(lane, x);
    for (; bits; bits &= bits - 1) {
        uint32_t j = (uint32_t)__builtin_ctz(bits);
        offset[k] = (first + j) * step;
        value[k++] = lane[j];
    }
    return k;
#endif
}

/* A kernel's threads: OpenMP's, which are torch's own where torch brings the same runtime; without OpenMP, one. They
 * share a counter and take the next task from it until none is left. `failed` is set where memory ran out. */
#define TEAM                                                                                                     \
    int64_t counter = 0;                                                                                         \
    int failed = 0;                                                                                              \
    (void)threads;                                                                                               \
    _Pragma("omp parallel num_threads(threads) reduction(| : failed)")
INLINE int64_t take(int64_t *counter) { return __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }

INLINE void *scratch(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64 + 64); }

#endif
