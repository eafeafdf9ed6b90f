/* What surrounds the engines: packing spikes to bits, pooling, counting operations. */
#include "events.h"

/* x [pixels][c] -> bits [pixels][words(c)], counts[pixels] of the non-zeros; *graded is set where a value is neither 0
 * nor 1. */
int pack(const void *x, int is_half, int64_t pixels, int64_t c, uint64_t *bits, int32_t *counts, int32_t *graded,
         int threads) {
    enum { ROWS = 1024 };
    TEAM {
        int other = 0;
        for (int64_t task; (task = take(&counter)) * ROWS < pixels;)
            for (int64_t p = task * ROWS; p < (task + 1) * ROWS && p < pixels; p++) {
                int32_t count = 0;
                uint64_t *out = bits + p * words(c);
                for (int64_t w = 0; w < words(c); w++) out[w] = 0;
                for (int64_t i = 0; i < c; i += LANES) {
                    vec v = load(x, p * c + i, is_half, c - i);
                    uint32_t m = nonzero_bits(v);
                    other |= nonzero_bits(v * (v - 1.f)) != 0;
                    out[i / 64] |= (uint64_t)m << i % 64;
                    count += __builtin_popcount(m);
                }
                counts[p] = count;
            }
        if (other) __atomic_store_n(graded, 1, __ATOMIC_RELAXED);
    }
    return failed;
}

/* bits -> [pixels][c] of 0.0 and 1.0 */
int unpack(const uint64_t *bits, int64_t pixels, int64_t c, void *x, int is_half, int threads) {
    enum { ROWS = 1024 };
    TEAM for (int64_t task; (task = take(&counter)) * ROWS < pixels;)
        for (int64_t p = task * ROWS; p < (task + 1) * ROWS && p < pixels; p++)
            for (int64_t i = 0; i < c; i++) {
                uint64_t bit = bits[p * words(c) + i / 64] >> i % 64 & 1;
                if (is_half) ((half *)x)[p * c + i] = bit ? 0x3c00 : 0;
                else ((float *)x)[p * c + i] = (float)bit;
            }
    return failed;
}

/* ops[image] = sum over target pixels of grad[target] x sum over taps of count[source]. */
int count_pairs(const geometry *g, const int32_t *count, const int32_t *grad, int64_t *ops, int threads) {
    TEAM for (int64_t image; (image = take(&counter)) < g->n;) {
        const int32_t *from = count + image * g->h * g->w;
        int64_t total = 0;
        for (int64_t y = 0; y < g->oh; y++)
            for (int64_t x = 0; x < g->ow; x++) {
                int64_t weight = grad[(image * g->oh + y) * g->ow + x], seen = 0;
                if (!weight) continue;
                for (int64_t ky = 0; ky < g->kh; ky++)
                    for (int64_t kx = 0; kx < g->kw; kx++) {
                        int64_t s = meet(g, y, x, ky, kx);
                        if (s >= 0) seen += from[s];
                    }
                total += weight * seen;
            }
        ops[image] = total;
    }
    return failed;
}

/* Max-pooling over k x k windows, [n][h][w][c] -> [n][h/k][w/k][c]; `from` keeps which of the window won (the first). */
int pool_forward(const void *x, int is_half, int64_t n, int64_t h, int64_t w, int64_t c, int64_t k, void *out,
                 uint8_t *from, int threads) {
    int64_t oh = h / k, ow = w / k;
    TEAM for (int64_t task; (task = take(&counter)) < n * oh;)
        for (int64_t ox = 0; ox < ow; ox++)
            for (int64_t i = 0; i < c; i += LANES) {
                int64_t left = c - i, to = (task * ow + ox) * c + i;
                int64_t image = task / oh, y = task % oh * k;
                vec best = splat(0.f);
                mask winner = {0};
                for (int64_t j = 0; j < k * k; j++) {
                    vec v = load(x, ((image * h + y + j / k) * w + ox * k + j % k) * c + i, is_half, left);
                    mask better = v > best;
                    if (!j) best = v;
                    else {
                        best = blend(better, v, best);
                        winner = (better & (mask)((mask){0} + (int32_t)j)) | (~better & winner);
                    }
                }
                store(out, to, is_half, left, best);
                for (int64_t lane = 0; lane < LANES && lane < left; lane++) from[to + lane] = (uint8_t)winner[lane];
            }
    return failed;
}

int pool_backward(const void *grad, const uint8_t *from, int is_half, int64_t n, int64_t h, int64_t w, int64_t c,
                  int64_t k, void *out, int threads) {
    int64_t oh = h / k, ow = w / k, size = is_half ? sizeof(half) : sizeof(float);
    TEAM for (int64_t task; (task = take(&counter)) < n * h;) {
        int64_t image = task / h, y = task % h;
        char *line = (char *)out + task * w * c * size;
        if (y / k >= oh) {
            memset(line, 0, w * c * size);
            continue;
        }
        for (int64_t x = 0; x < w; x++) {
            int64_t at = ((image * oh + y / k) * ow + x / k) * c;
            if (x / k >= ow) {
                memset(line + x * c * size, 0, c * size);
                continue;
            }
            uint8_t me = (uint8_t)(y % k * k + x % k);
            if (is_half) {
                half *to = (half *)line + x * c;
                const half *g = (const half *)grad + at;
                for (int64_t i = 0; i < c; i++) to[i] = from[at + i] == me ? g[i] : 0;
            } else {
                float *to = (float *)line + x * c;
                const float *g = (const float *)grad + at;
                for (int64_t i = 0; i < c; i++) to[i] = from[at + i] == me ? g[i] : 0.f;
            }
        }
    }
    return failed;
}

/* Floats rounded to binary16 and back, to nearest even; with a seed, up or down with the probability of the remainder.
 * The noise of an element depends on the seed and its index alone. */
int round_half(const float *x, int64_t count, uint32_t seed, float *out, int threads) {
    enum { ROWS = 1 << 14 };
    TEAM for (int64_t task; (task = take(&counter)) * ROWS < count;)
        for (int64_t i = task * ROWS; i < (task + 1) * ROWS && i < count; i += LANES) {
            vec v = load(x, i, 0, count - i);
            half stored[LANES];
            store_half(stored, seed ? dither(v, (uint32_t)i, seed) : v);
            store(out, i, 0, count - i, load_half(stored));
        }
    return failed;
}
