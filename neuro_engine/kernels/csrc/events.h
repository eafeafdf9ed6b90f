/* Lists of events: which channels of a pixel are active, and their values. */
#ifndef NEURO_ENGINE_EVENTS_H
#define NEURO_ENGINE_EVENTS_H

#include "simd.h"

/* How a map of pixels is stored. */
enum { BITS, FLOATS, HALVES };

/* A convolution's geometry: the map that is read ("source") has h x w pixels of c channels, the map that is walked over
 * ("target") has oh x ow. A pixel of the target meets the source at target * stride + tap - padding; where transposed,
 * at those source pixels whose own taps meet the target. Matches `_geometry` in native/events.py. */
typedef struct {
    int64_t n, h, w, c, oh, ow, oc, kh, kw, stride, padding, transposed;
} geometry;

/* Where target pixel (y, x) meets the source through tap (ky, kx): pixel inside its image, or -1. */
INLINE int64_t meet(const geometry *g, int64_t y, int64_t x, int64_t ky, int64_t kx) {
    int64_t sy, sx;
    if (g->transposed) {
        sy = y + g->padding - ky;
        sx = x + g->padding - kx;
        if (sy < 0 || sx < 0) return -1;
        if (g->stride > 1) {
            if (sy % g->stride || sx % g->stride) return -1;
            sy /= g->stride;
            sx /= g->stride;
        }
    } else {
        sy = y * g->stride + ky - g->padding;
        sx = x * g->stride + kx - g->padding;
    }
    return sy < 0 || sy >= g->h || sx < 0 || sx >= g->w ? -1 : sy * g->w + sx;
}

/* Where each target pixel of an image meets the source, by tap: [taps][oh * ow], pixel inside its image or -1. NULL
 * where memory ran out; the caller frees it. */
int32_t *meetings(const geometry *g);

/* A tile: consecutive target pixels, where each meets the source, and the events of the source pixels met. Filled from
 * one end of the map to the other, it keeps the lists that the next tile needs too. */
typedef struct {
    int64_t pixels, first, count;   /* target pixels; first source pixel and how many */
    int32_t *met;                   /* [taps][pixels]: source pixel - first, or -1 */
    int32_t *begin;                 /* [count + 1]: where the list of each source pixel begins */
    uint32_t *offset;               /* channel * stride of a row of weights */
    float *value;                   /* NULL where every event is 1 */
    int64_t met_capacity, capacity; /* of met; source pixels that there is room for */
} tile;

INLINE int64_t words(int64_t channels) { return (channels + 63) / 64; }

/* Appends the events of one pixel; returns the end of the list. */
INLINE int64_t list_bits(const uint64_t *bits, int64_t c, uint32_t step, uint32_t *offset, int64_t k) {
    for (int64_t i = 0; i < words(c); i++)
        for (uint64_t m = bits[i]; m; m &= m - 1) offset[k++] = (uint32_t)(i * 64 + __builtin_ctzll(m)) * step;
    return k;
}

INLINE int64_t list_values(const void *x, int64_t at, int is_half, int64_t c, uint32_t step, uint32_t *offset,
                           float *value, int64_t k) {
    for (int64_t i = 0; i < c; i += LANES)
        k = append_nonzeros(load(x, at + i, is_half, c - i), (uint32_t)i, step, offset, value, k);
    return k;
}

int tile_fill(tile *t, const geometry *g, const int32_t *meetings, int kind, const void *source, uint32_t step,
              int64_t begin, int64_t end);
void tile_free(tile *t);

#endif
