/* Multi-step leaky integrate-and-fire neurons: all time steps of a block of neurons while it is in the cache. Maps are
 * [steps][pixels][channels]. */
#include "neuron.h"

enum { RECTANGLE, TRIANGLE, ATAN, FAST_SIGMOID };
enum { BLOCK = 2048 }; /* neurons in a block, about */

INLINE int64_t block_pixels(int64_t channels) {
    return channels >= BLOCK ? 1 : channels ? BLOCK / channels : BLOCK;
}
INLINE int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

/* A current as it is stored, and what normalises it: scale[c] current + shift[c], or NULL. */
typedef struct {
    const void *values;
    int is_half, constant;
    const float *scale, *shift;
} currents;

INLINE vec normalised(const currents *x, int64_t at, int64_t i, int64_t left) {
    vec v = load(x->values, at, x->is_half, left);
    return x->scale ? v * load(x->scale, i, 0, left) + load(x->shift, i, 0, left) : v;
}

INLINE void forward(const neuron *n, const currents *x, void *spikes, void *membrane, int is_half, int64_t *fired,
                    int64_t steps, int64_t pixels, int64_t c, int64_t begin, int64_t end, float *state) {
    for (int64_t t = 0; t < steps; t++) {
        int64_t count = 0;
        for (int64_t p = begin; p < end; p++)
            for (int64_t i = 0; i < c; i += LANES) {
                int64_t at = p * c + i, left = c - i;
                vec now = normalised(x, (x->constant ? 0 : t * pixels * c) + at, i, left);
                count += fire(n, now, state + (p - begin) * (c + LANES) + i, !t, spikes, membrane,
                              t * pixels * c + at, is_half, left);
            }
        fired[t] += count;
    }
}

/* current [steps or 1][pixels][c] -> spikes, membrane [steps][pixels][c]; fired[task][steps] counts the spikes. */
int neuron_forward(const neuron *n, const void *current, int current_is_half, int constant, const float *scale,
                   const float *shift, void *spikes, void *membrane, int is_half, int64_t *fired, int64_t steps,
                   int64_t pixels, int64_t c, int threads) {
    int64_t block = block_pixels(c), tasks = (pixels + block - 1) / block;
    const currents given = {current, current_is_half, constant, scale, shift};
    TEAM {
        float *state = scratch(block * (c + LANES) * sizeof(float));
        failed = !state;
        for (int64_t task; !failed && (task = take(&counter)) < tasks;) {
            int64_t begin = task * block, end = minimum(begin + block, pixels);
            int64_t *count = fired + task * steps;
            neuron k = *n;
            currents x = given;
            if (k.reset == HARD && is_half && x.is_half && x.scale) { /* the common cases, specialised */
                k.reset = HARD, x.is_half = 1;
                forward(&k, &x, spikes, membrane, 1, count, steps, pixels, c, begin, end, state);
            } else if (k.reset == HARD && is_half && !x.is_half && !x.scale) {
                k.reset = HARD, x.is_half = 0, x.scale = NULL;
                forward(&k, &x, spikes, membrane, 1, count, steps, pixels, c, begin, end, state);
            } else if (k.reset == HARD && !is_half && !x.is_half && !x.scale) {
                k.reset = HARD, x.is_half = 0, x.scale = NULL;
                forward(&k, &x, spikes, membrane, 0, count, steps, pixels, c, begin, end, state);
            } else {
                forward(&k, &x, spikes, membrane, is_half, count, steps, pixels, c, begin, end, state);
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
 * is constant), how many of it are not 0 by pixel, and by channel its sum and, with a current (of the same type), the sum
 * of its products with it: sums[task][2][c]. */
INLINE void backward(const neuron *n, const void *grad, const void *membrane, void *grad_current, int is_half,
                     int constant, const void *current, float *sums, int32_t *nonzeros, int64_t steps, int64_t pixels, int64_t c,
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
                if (current) {
                    float *products = sums + c + LANES + i;
                    vec y = load(current, constant ? j : at, is_half, left);
                    store_float(products, load_float(products) + g * y);
                }
                count += __builtin_popcount(nonzero_bits(g));
            }
            if (!constant || !t) nonzeros[(constant ? 0 : t * pixels) + p] = count;
        }
}

int neuron_backward(const neuron *n, const void *grad, const void *membrane, void *grad_current, int is_half,
                    int constant, const void *current, float *sums, int32_t *nonzeros, int64_t steps, int64_t pixels, int64_t c,
                    int threads) {
    int64_t block = block_pixels(c), tasks = (pixels + block - 1) / block, size = block * (c + LANES);
    TEAM {
        float *state = scratch(2 * size * sizeof(float)), *sum = scratch(2 * (c + LANES) * sizeof(float));
        failed = !state || !sum;
        for (int64_t task; !failed && (task = take(&counter)) < tasks;) {
            int64_t begin = task * block, end = minimum(begin + block, pixels);
            neuron k = *n;
            memset(sum, 0, 2 * (c + LANES) * sizeof(float));
            if (k.reset == HARD && k.detach && is_half && k.surrogate == TRIANGLE) { /* the common cases, specialised */
                k.reset = HARD, k.detach = 1, k.surrogate = TRIANGLE;
                backward(&k, grad, membrane, grad_current, 1, constant, current, sum, nonzeros, steps, pixels, c, begin, end,
                         state, state + size);
            } else if (k.reset == HARD && k.detach && k.surrogate == TRIANGLE) {
                k.reset = HARD, k.detach = 1, k.surrogate = TRIANGLE;
                backward(&k, grad, membrane, grad_current, 0, constant, current, sum, nonzeros, steps, pixels, c, begin, end,
                         state, state + size);
            } else {
                backward(&k, grad, membrane, grad_current, is_half, constant, current, sum, nonzeros, steps, pixels, c, begin,
                         end, state, state + size);
            }
            memcpy(sums + task * 2 * c, sum, c * sizeof(float));
            memcpy(sums + (task * 2 + 1) * c, sum + c + LANES, c * sizeof(float));
        }
        free(state);
        free(sum);
    }
    return failed;
}
