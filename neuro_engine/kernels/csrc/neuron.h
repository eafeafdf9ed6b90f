/* One time step of a leaky integrate-and-fire neuron. The equations are those of neuro_engine/neuron.py. */
#ifndef NEURO_ENGINE_NEURON_H
#define NEURO_ENGINE_NEURON_H

#include "simd.h"

enum { HARD, SOFT, NONE };

/* Matches `_neuron` in native/neuron.py. */
typedef struct {
    float leak, gain, threshold, drop, scale;
    int32_t reset, detach, surrogate;
} neuron;

INLINE vec after_reset(vec h, mask fired, const neuron *n) {
    if (n->reset == HARD) return blend(fired, splat(0.f), h);
    if (n->reset == SOFT) return blend(fired, h - n->drop, h);
    return h;
}

/* Lanes of a half are rounded as they are stored; what a later step reads is the stored value. */
INLINE vec rounded(vec x, int is_half) {
    if (!is_half) return x;
    half stored[LANES];
    store_half(stored, x);
    return load_half(stored);
}

/* Integrates current `x` on membrane `v` (of the step before; 0 at first), stores membrane and spikes of the first `left`
 * lanes at element `at`, updates `v` and returns how many fired. */
INLINE int fire(const neuron *n, vec x, float *v, int first, void *spikes, void *membrane, int64_t at, int is_half,
                int64_t left) {
    vec h = x * n->gain;
    if (!first) h = h + n->leak * load_float(v);
    h = rounded(h, is_half);
    mask fires = h >= n->threshold;
    vec s = blend(fires, splat(1.f), splat(0.f));
    store_float(v, after_reset(h, fires, n));
    store(membrane, at, is_half, left, h);
    store(spikes, at, is_half, left, s);
    uint32_t fired = nonzero_bits(s);
    if (left < LANES) fired &= (1u << left) - 1; /* lanes beyond the channels are no neurons */
    return __builtin_popcount(fired);
}

#endif
