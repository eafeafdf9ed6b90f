/* Multi-step leaky integrate-and-fire neurons: all time steps of a block of neurons while it is in the cache. Maps are
 * [steps][pixels][channels]. */
#include "neuron.h"

enum { RECTANGLE, TRIANGLE, ATAN, FAST_SIGMOID };
enum { BLOCK = 2048 }; /* neurons in a block, about */

INLINE int64_t block_pixels(int64_t channels) {
    return channels >= BLOCK ? 1 : channels ? BLOCK / channels : BLOCK;
}
INLINE int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

INLINE void forward(const neuron *n, const float *current, int constant, void *spikes, void *membrane, int is_half,
                    int64_t *fired, int64_t steps, int64_t pixels, int64_t c, int64_t begin, int64_t end,
                    float *state) {
    for (int64_t t = 0; t < steps; t++) {
        int64_t count = 0;
        for (int64_t p = begin; p < end; p++)
            for (int64_t i = 0; i < c; i += LANES) {
                int64_t at = p * c + i, left = c - i;
                vec x = load(current, (constant ? 0 : t * pixels * c) + at, 0, left);
                count += fire(n, x, state + (p - begin) * (c + LANES) + i, !t, spikes, membrane,
                              t * pixels * c + at, is_half, left);
            }
        fired[t] += count;
    }
}

/* current [steps or 1][pixels][c] -> spikes, membrane [steps][pixels][c]; fired[task][steps] counts the spikes. */
int neuron_forward(const neuron *n, const float *current, int constant, void *spikes, void *membrane, int is_half,
                   int64_t *fired, int64_t steps, int64_t pixels, int64_t c, int threads) {
    int64_t block = block_pixels(c), tasks = (pixels + block - 1) / block;
    TEAM {
        float *state = scratch(block * (c + LANES) * sizeof(float));
        failed = !state;
        for (int64_t task; !failed && (task = take(&counter)) < tasks;) {
            int64_t begin = task * block, end = minimum(begin + block, pixels);
            int64_t *count = fired + task * steps;
            neuron k = *n;
            if (k.reset == HARD && is_half) { /* the common cases, specialised */
                k.reset = HARD;
                forward(&k, current, constant, spikes, membrane, 1, count, steps, pixels, c, begin, end, state);
            } else if (k.reset == HARD) {
                k.reset = HARD;
                forward(&k, current, constant, spikes, membrane, 0, count, steps, pixels, c, begin, end, state);
            } else {
                forward(&k, current, constant, spikes, membrane, is_half, count, steps, pixels, c, begin, end, state);
            }
        }
        free(state);
    }
    return failed;
}

INLINE vec surrogate(vec x, const neuron *n) {
    float k = n->scale;
    vec size = absolute(x);
    if (n->surrogate == RECTANGLE) return blend(size < 0.5f / k, splat(k), splat(0.f));
    if (n->surrogate == TRIANGLE) return positive(k - size) * (1.f / (k * k));
    if (n->surrogate == ATAN) {
        vec y = x * (1.57079632679489662f * k);
        return 0.5f * k / (y * y + 1.f);
    }
    vec y = size * k + 1.f;
    return 1.f / (y * y);
}

/* grad of the spikes, membrane -> grad of the current ([steps or 1][pixels][c]; summed over the steps where the current
 * is constant), its sum over all pixels and steps by channel sums[task][c], and how many are not 0 by pixel. */
INLINE void backward(const neuron *n, const void *grad, const void *membrane, void *grad_current, int is_half,
                     int constant, float *sums, int32_t *nonzeros, int64_t steps, int64_t pixels, int64_t c,
                     int64_t begin, int64_t end, float *state, float *total) {
    for (int64_t t = steps - 1; t >= 0; t--)
        for (int64_t p = begin; p < end; p++) {
            int32_t count = 0;
            for (int64_t i = 0; i < c; i += LANES) {
                int64_t j = p * c + i, at = t * pixels * c + j, left = c - i;
                int64_t k = (p - begin) * (c + LANES) + i;
                vec h = load(membrane, at, is_half, left);
                vec phi = surrogate(h - n->threshold, n);
                vec dh = load(grad, at, is_half, left) * phi;
                if (t < steps - 1) {
                    vec dv = load_float(state + k);
                    mask fired = h >= n->threshold;
                    vec through = n->reset == HARD ? blend(fired, splat(0.f), dv) : dv;
                    if (!n->detach && n->reset == HARD) through = through - dv * h * phi;
                    if (!n->detach && n->reset == SOFT) through = through - dv * n->drop * phi;
                    dh = dh + through;
                }
                store_float(state + k, n->leak * dh);
                vec g = dh * n->gain;
                if (constant) {
                    g = t < steps - 1 ? g + load_float(total + k) : g;
                    store_float(total + k, g);
                    if (t) continue;
                }
                g = rounded(g, is_half);
                store(grad_current, constant ? j : at, is_half, left, g);
                store_float(sums + i, load_float(sums + i) + g);
                count += __builtin_popcount(nonzero_bits(g));
            }
            if (!constant || !t) nonzeros[(constant ? 0 : t * pixels) + p] = count;
        }
}

int neuron_backward(const neuron *n, const void *grad, const void *membrane, void *grad_current, int is_half,
                    int constant, float *sums, int32_t *nonzeros, int64_t steps, int64_t pixels, int64_t c,
                    int threads) {
    int64_t block = block_pixels(c), tasks = (pixels + block - 1) / block, size = block * (c + LANES);
    TEAM {
        float *state = scratch(2 * size * sizeof(float)), *sum = scratch((c + LANES) * sizeof(float));
        failed = !state || !sum;
        for (int64_t task; !failed && (task = take(&counter)) < tasks;) {
            int64_t begin = task * block, end = minimum(begin + block, pixels);
            neuron k = *n;
            memset(sum, 0, (c + LANES) * sizeof(float));
            if (k.reset == HARD && k.detach && is_half && k.surrogate == TRIANGLE) { /* the common cases, specialised */
                k.reset = HARD, k.detach = 1, k.surrogate = TRIANGLE;
                backward(&k, grad, membrane, grad_current, 1, constant, sum, nonzeros, steps, pixels, c, begin, end,
                         state, state + size);
            } else if (k.reset == HARD && k.detach && k.surrogate == TRIANGLE) {
                k.reset = HARD, k.detach = 1, k.surrogate = TRIANGLE;
                backward(&k, grad, membrane, grad_current, 0, constant, sum, nonzeros, steps, pixels, c, begin, end,
                         state, state + size);
            } else {
                backward(&k, grad, membrane, grad_current, is_half, constant, sum, nonzeros, steps, pixels, c, begin,
                         end, state, state + size);
            }
            memcpy(sums + task * c, sum, c * sizeof(float));
        }
        free(state);
        free(sum);
    }
    return failed;
}
