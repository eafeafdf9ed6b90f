#include "events.h"

int32_t *meetings(const geometry *g) {
    int64_t area = g->oh * g->ow;
    int32_t *table = scratch(g->kh * g->kw * area * sizeof(int32_t)), *met = table;
    if (!table) return NULL;
    for (int64_t ky = 0; ky < g->kh; ky++)
        for (int64_t kx = 0; kx < g->kw; kx++)
            for (int64_t y = 0; y < g->oh; y++)
                for (int64_t x = 0; x < g->ow; x++) *met++ = (int32_t)meet(g, y, x, ky, kx);
    return table;
}

/* Copies the meetings of pixels begin..end from the table and finds the source pixels low..high that they need. */
static void find(tile *t, const geometry *g, const int32_t *table, int64_t begin, int64_t end, int32_t *low,
                 int32_t *high) {
    int64_t area = g->oh * g->ow;
    *low = INT32_MAX, *high = -1;
    for (int64_t tap = 0; tap < g->kh * g->kw; tap++)
        for (int64_t p = begin; p < end;) {
            int64_t image = p / area, stop = (image + 1) * area < end ? (image + 1) * area : end;
            const int32_t *from = table + tap * area - image * area;
            int32_t *to = t->met + tap * t->pixels - begin, base = (int32_t)(image * g->h * g->w);
            int32_t least = *low, most = *high;
            for (; p < stop; p++) {
                int32_t s = from[p] < 0 ? -1 : from[p] + base;
                to[p] = s;
                least = s >= 0 && s < least ? s : least;
                most = s > most ? s : most;
            }
            *low = least, *high = most;
        }
}

/* Room for `count` source pixels; what is in the first `kept` events stays. */
static int reserve(tile *t, const geometry *g, int64_t count, int64_t kept, int valued) {
    if (t->capacity >= count) return 1;
    int32_t *begin = scratch((count + 1) * sizeof(int32_t));
    uint32_t *offset = scratch((count * g->c + LANES) * sizeof(uint32_t));
    float *value = valued ? scratch((count * g->c + LANES) * sizeof(float)) : NULL;
    int enough = begin && offset && (value || !valued);
    if (enough && t->count) {
        memcpy(begin, t->begin, (t->count + 1) * sizeof(int32_t));
        memcpy(offset, t->offset, kept * sizeof(uint32_t));
        if (valued) memcpy(value, t->value, kept * sizeof(float));
    }
    free(t->begin);
    free(t->offset);
    free(t->value);
    t->begin = begin, t->offset = offset, t->value = value, t->capacity = count;
    return enough;
}

/* Drops the lists before source pixel `low`; leaves none where `low` is not among them. Returns the events kept. */
static int32_t keep(tile *t, int64_t low) {
    int64_t dropped = low - t->first;
    if (dropped < 0 || dropped >= t->count) {
        t->first = low, t->count = 0;
        return 0;
    }
    int32_t from = t->begin[dropped], events = t->begin[t->count] - from;
    t->first = low, t->count -= dropped;
    for (int64_t p = 0; p <= t->count; p++) t->begin[p] = t->begin[p + dropped] - from;
    memmove(t->offset, t->offset + from, events * sizeof(uint32_t));
    if (t->value) memmove(t->value, t->value + from, events * sizeof(float));
    return events;
}

/* Fills a tile with target pixels begin..end, counted over all images; 0 where memory ran out. */
int tile_fill(tile *t, const geometry *g, const int32_t *table, int kind, const void *source, uint32_t step,
              int64_t begin, int64_t end) {
    int64_t taps = g->kh * g->kw;
    int32_t low, high;
    t->pixels = end - begin;
    if (t->met_capacity < taps * t->pixels) {
        free(t->met);
        t->met = scratch(taps * t->pixels * sizeof(int32_t));
        t->met_capacity = t->met ? taps * t->pixels : 0;
    }
    if (!t->met) return 0;
    find(t, g, table, begin, end, &low, &high);
    if (high < 0) low = 0;
    int64_t k = keep(t, low), count = high < 0 ? 0 : high - low + 1;
    if (!reserve(t, g, count, k, kind != BITS)) return 0;
    for (int64_t p = t->count; p < count; p++) {
        t->begin[p] = (int32_t)k;
        int64_t at = low + p;
        if (kind == BITS) k = list_bits((const uint64_t *)source + at * words(g->c), g->c, step, t->offset, k);
        else k = list_values(source, at * g->c, kind == HALVES, g->c, step, t->offset, t->value, k);
    }
    if (t->count < count) t->count = count, t->begin[count] = (int32_t)k;
    for (int64_t i = 0; i < taps * t->pixels; i++) t->met[i] -= t->met[i] < 0 ? 0 : low;
    return 1;
}

void tile_free(tile *t) {
    free(t->met);
    free(t->begin);
    free(t->offset);
    free(t->value);
}
