/* Passes over weights: as they are stored, standardised, arranged for the synapses, and their gradients collected. */
#include "simd.h"

enum {
    PATCH = 16,      /* transposing goes by patches, which fit a cache */
    STRIP = 1 << 14, /* elements of a task where order does not matter */
    WIDE = 16,       /* partial sums of a row: as many for every width of register, so that all give the same bits */
    VECTORS = WIDE / LANES,
};

/* x rounded to binary16, to nearest even; *overflow is set where a result is not finite. */
int to_half(const float *x, int64_t count, half *out, int32_t *overflow, int threads) {
    TEAM {
        uint32_t other = 0;
        for (int64_t task; (task = take(&counter)) * STRIP < count;)
            for (int64_t i = task * STRIP; i < (task + 1) * STRIP && i < count; i += LANES) {
                half kept[LANES];
                store_half(kept, load(x, i, 0, count - i));
                vec v = load_half(kept);
                other |= nonzero_bits(v - v); /* NaN for infinities and NaN */
                store(out, i, 1, count - i, v);
            }
        if (other) __atomic_store_n(overflow, 1, __ATOMIC_RELAXED);
    }
    return failed;
}

/* Adds up WIDE partial sums, always in the same order. */
INLINE float total(const vec *part) {
    float sum[WIDE];
    for (int v = 0; v < VECTORS; v++) store_float(sum + v * LANES, part[v]);
    for (int half_way = WIDE / 2; half_way; half_way /= 2)
        for (int i = 0; i < half_way; i++) sum[i] += sum[i + half_way];
    return sum[0];
}

/* Sums over a row of x and of x times y - mean. */
INLINE void row_sums(const float *x, const float *y, int64_t n, float mean, float *sum, float *product) {
    vec s[VECTORS] = {0}, p[VECTORS] = {0};
    for (int64_t i = 0; i < n; i += WIDE)
        for (int v = 0; v < VECTORS; v++) {
            vec a = load(x, i + v * LANES, 0, n - i - v * LANES);
            s[v] += a;
            p[v] += a * (load(y, i + v * LANES, 0, n - i - v * LANES) - mean);
        }
    *sum = total(s);
    *product = total(p);
}

/* Sum over a row of (w - mean) squared. */
INLINE float row_square(const float *w, int64_t n, float mean) {
    vec s[VECTORS] = {0};
    for (int64_t i = 0; i < n; i += WIDE)
        for (int v = 0; v < VECTORS; v++) {
            int64_t at = i + v * LANES;
            vec d = load(w, at, 0, n - at) - mean;
            if (n - at < LANES)
                for (int64_t lane = n - at > 0 ? n - at : 0; lane < LANES; lane++) d[lane] = 0.f;
            s[v] += d * d;
        }
    return total(s);
}

/* y = gain (w - mean) inverse with inverse = (|w - mean|^2 + epsilon)^-1/2, by row [rows][n]. A task is a row. */
int standardise(const float *w, const float *gain, int64_t rows, int64_t n, float epsilon, float *y, float *mean,
                float *inverse, int threads) {
    TEAM for (int64_t r; (r = take(&counter)) < rows;) {
        const float *from = w + r * n;
        float sum, unused;
        row_sums(from, from, n, 0.f, &sum, &unused);
        mean[r] = sum / (float)n;
        inverse[r] = 1.f / __builtin_sqrtf(row_square(from, n, mean[r]) + epsilon);
        float a = gain[r] * inverse[r], m = mean[r];
        for (int64_t i = 0; i < n; i += LANES) store(y, r * n + i, 0, n - i, (load(from, i, 0, n - i) - m) * a);
    }
    return failed;
}

/* With u = (w - mean) inverse and p = G . u: the gradient of the gain is p, that of w is
 * gain inverse (G - mean G - p u). */
int standardise_backward(const float *grad, const float *w, const float *gain, const float *mean,
                         const float *inverse, int64_t rows, int64_t n, float *w_grad, float *gain_grad, int threads) {
    TEAM for (int64_t r; (r = take(&counter)) < rows;) {
        const float *g = grad + r * n, *from = w + r * n;
        float sum, product;
        row_sums(g, from, n, mean[r], &sum, &product);
        float p = inverse[r] * product, a = gain[r] * inverse[r], b = -a * inverse[r] * p, m = mean[r];
        float shift = sum / (float)n;
        gain_grad[r] = p;
        for (int64_t i = 0; i < n; i += LANES) {
            vec out = (load(g, i, 0, n - i) - shift) * a + (load(from, i, 0, n - i) - m) * b;
            store(w_grad, r * n + i, 0, n - i, out);
        }
    }
    return failed;
}

/* n weights as floats. */
INLINE void widen(const void *weight, int is_half, int64_t at, int64_t n, float *to) {
    if (!is_half) memcpy(to, (const float *)weight + at, n * sizeof(float));
    else
        for (int64_t i = 0; i < n; i += LANES) store(to, i, 0, n - i, load(weight, at + i, 1, n - i));
}

/* weight [a][b][taps] -> [taps][b][row] (rows of a) or, transposed, [taps][a][row] (rows of b); beyond the channels 0.
 * A task is a patch of the listed channels: it is copied together first, since its rows lie far apart. */
int arrange(const void *weight, int is_half, int64_t a, int64_t b, int64_t taps, int transposed, int64_t row,
            float *out, int threads) {
    int64_t listed = transposed ? a : b, rows = transposed ? b : a;
    TEAM {
        float *patch = scratch(PATCH * PATCH * taps * sizeof(float));
        failed = !patch;
        for (int64_t task; !failed && (task = take(&counter)) * PATCH < listed;) {
            int64_t first = task * PATCH, wide = listed - first < PATCH ? listed - first : PATCH;
            for (int64_t r0 = 0; r0 < row; r0 += PATCH) {
                int64_t high = rows - r0 < PATCH ? rows - r0 : PATCH;
                /* patch [high][wide][taps] or, transposed, [wide][high][taps] */
                int64_t lines = transposed ? wide : high, length = (transposed ? high : wide) * taps;
                for (int64_t k = 0; k < lines; k++)
                    widen(weight, is_half, ((transposed ? first : r0) + k) * b * taps + (transposed ? r0 : first) * taps,
                          length, patch + k * length);
                int64_t step = transposed ? taps : length, other = transposed ? length : taps;
                for (int64_t l = 0; l < wide; l++)
                    for (int64_t tap = 0; tap < taps; tap++) {
                        float *to = out + (tap * listed + first + l) * row + r0;
                        for (int64_t r = 0; r < PATCH; r++) to[r] = r < high ? patch[l * other + r * step + tap] : 0.f;
                    }
            }
        }
        free(patch);
    }
    return failed;
}

/* partial [chunks][taps][b][row] -> weight gradient [a][b][taps]. A task is a patch of b, put together before it is
 * written. */
int collect(const float *partial, int64_t chunks, int64_t a, int64_t b, int64_t taps, int64_t row, float *out,
            int threads) {
    TEAM {
        float *patch = scratch(PATCH * PATCH * taps * sizeof(float));
        failed = !patch;
        for (int64_t task; !failed && (task = take(&counter)) * PATCH < b;) {
            int64_t first = task * PATCH, wide = b - first < PATCH ? b - first : PATCH;
            for (int64_t r0 = 0; r0 < a; r0 += PATCH) {
                for (int64_t tap = 0; tap < taps; tap++)
                    for (int64_t i = 0; i < wide; i++) {
                        float sum[PATCH] = {0};
                        for (int64_t chunk = 0; chunk < chunks; chunk++) {
                            const float *from = partial + ((chunk * taps + tap) * b + first + i) * row + r0;
                            for (int64_t r = 0; r < PATCH; r++) sum[r] += from[r];
                        }
                        for (int64_t r = 0; r < PATCH; r++) patch[(r * wide + i) * taps + tap] = sum[r];
                    }
                for (int64_t r = 0; r < PATCH && r0 + r < a; r++)
                    memcpy(out + ((r0 + r) * b + first) * taps, patch + r * wide * taps, wide * taps * sizeof(float));
            }
        }
        free(patch);
    }
    return failed;
}
