/* Batch normalisation of a stored current, around the neurons: statistics before, the gradient's way back after. */
#include "simd.h"

enum { ROWS = 1024 };

/* Sums of y and of its square over the pixels of each task, by channel: sums[task][2][c]. */
int channel_sums(const void *y, int is_half, int64_t pixels, int64_t c, float *sums, int threads) {
    TEAM {
        float *sum = scratch(2 * (c + LANES) * sizeof(float));
        failed = !sum;
        for (int64_t task; !failed && (task = take(&counter)) * ROWS < pixels;) {
            memset(sum, 0, 2 * (c + LANES) * sizeof(float));
            for (int64_t p = task * ROWS; p < (task + 1) * ROWS && p < pixels; p++)
                for (int64_t i = 0; i < c; i += LANES) {
                    vec v = load(y, p * c + i, is_half, c - i);
                    float *square = sum + c + LANES + i;
                    store_float(sum + i, load_float(sum + i) + v);
                    store_float(square, load_float(square) + v * v);
                }
            memcpy(sums + task * 2 * c, sum, c * sizeof(float));
            memcpy(sums + (task * 2 + 1) * c, sum + c + LANES, c * sizeof(float));
        }
        free(sum);
    }
    return failed;
}

/* grad <- a[c] grad + b[c] y + d[c], in place; counts the non-zeros of each pixel. */
int norm_backward(void *grad, const void *y, int is_half, const float *a, const float *b, const float *d,
                  int64_t pixels, int64_t c, int32_t *nonzeros, int threads) {
    TEAM for (int64_t task; (task = take(&counter)) * ROWS < pixels;)
        for (int64_t p = task * ROWS; p < (task + 1) * ROWS && p < pixels; p++) {
            int32_t count = 0;
            for (int64_t i = 0; i < c; i += LANES) {
                int64_t at = p * c + i, left = c - i;
                vec g = load(grad, at, is_half, left) * load(a, i, 0, left) +
                        load(y, at, is_half, left) * load(b, i, 0, left) + load(d, i, 0, left);
                store(grad, at, is_half, left, g);
                uint32_t bits = nonzero_bits(load(grad, at, is_half, left));
                count += __builtin_popcount(bits);
            }
            nonzeros[p] = count;
        }
    return failed;
}
