/* Event-driven synapses: FP and BP gather rows of weights at the events, WG scatters gradients to them. */
#include "events.h"
#include "neuron.h"

enum {
    TILE = 64,            /* target pixels in a tile: with 64 channels its accumulators take 16 KiB, half of an L1 */
    UNIT = 16,            /* rows of weights are padded to units of channels */
    BLOCK = 4 * UNIT,     /* channels done at once, in registers */
};

/* Adds one tap's events to the accumulators of the tile [pixels][UNITS x UNIT]; `weight` begins at the block. */
#define GATHER(NAME, UNITS, VALUED)                                                                              \
    static void NAME(const tile *t, const int32_t *met, const float *weight, float *acc) {                       \
        enum { WIDTH = (UNITS) * UNIT, VECTORS = WIDTH / LANES };                                                \
        for (int64_t p = 0; p < t->pixels; p++) {                                                                \
            int32_t s = met[p];                                                                                  \
            if (s < 0) continue;                                                                                 \
            int32_t k = t->begin[s], end = t->begin[s + 1];                                                      \
            if (k == end) continue;                                                                              \
            float *out = acc + p * WIDTH;                                                                        \
            vec a[VECTORS];                                                                                      \
            for (int v = 0; v < VECTORS; v++) a[v] = load_float(out + v * LANES);                                \
            for (; k < end; k++) {                                                                               \
                const float *row = weight + t->offset[k];                                                        \
                if (VALUED) {                                                                                    \
                    vec x = splat(t->value[k]);                                                                  \
                    for (int v = 0; v < VECTORS; v++) a[v] += x * load_float(row + v * LANES);                   \
                } else {                                                                                         \
                    for (int v = 0; v < VECTORS; v++) a[v] += load_float(row + v * LANES);                       \
                }                                                                                                \
            }                                                                                                    \
            for (int v = 0; v < VECTORS; v++) store_float(out + v * LANES, a[v]);                                \
        }                                                                                                        \
    }

/* Adds the gradients of the tile [pixels][UNITS x UNIT] to one tap's accumulators [c][UNITS x UNIT]. */
#define SCATTER(NAME, UNITS, VALUED)                                                                             \
    static void NAME(const tile *t, const int32_t *met, const float *grad, const uint8_t *live, float *acc) {    \
        enum { WIDTH = (UNITS) * UNIT, VECTORS = WIDTH / LANES };                                                \
        for (int64_t p = 0; p < t->pixels; p++) {                                                                \
            int32_t s = met[p];                                                                                  \
            if (s < 0 || !live[p]) continue;                                                                     \
            vec g[VECTORS];                                                                                      \
            for (int v = 0; v < VECTORS; v++) g[v] = load_float(grad + p * WIDTH + v * LANES);                   \
            for (int32_t k = t->begin[s], end = t->begin[s + 1]; k < end; k++) {                                 \
                float *row = acc + t->offset[k];                                                                 \
                vec x = splat(VALUED ? t->value[k] : 1.f);                                                       \
                for (int v = 0; v < VECTORS; v++) {                                                              \
                    vec sum = load_float(row + v * LANES);                                                       \
                    store_float(row + v * LANES, VALUED ? sum + x * g[v] : sum + g[v]);                          \
                }                                                                                                \
            }                                                                                                    \
        }                                                                                                        \
    }

#define EACH_WIDTH(KERNEL, NAME)                                                                                 \
    KERNEL(NAME##_1, 1, 0)                                                                                       \
    KERNEL(NAME##_2, 2, 0)                                                                                       \
    KERNEL(NAME##_3, 3, 0)                                                                                       \
    KERNEL(NAME##_4, 4, 0)                                                                                       \
    KERNEL(NAME##_valued_1, 1, 1)                                                                                \
    KERNEL(NAME##_valued_2, 2, 1)                                                                                \
    KERNEL(NAME##_valued_3, 3, 1)                                                                                \
    KERNEL(NAME##_valued_4, 4, 1)
EACH_WIDTH(GATHER, gather)
EACH_WIDTH(SCATTER, scatter)
#define TABLE(NAME) {{NAME##_1, NAME##_2, NAME##_3, NAME##_4},                                                   \
                     {NAME##_valued_1, NAME##_valued_2, NAME##_valued_3, NAME##_valued_4}}

INLINE int64_t block_units(int64_t channels) { return channels >= BLOCK ? 4 : (channels + UNIT - 1) / UNIT; }

static void write_block(const tile *t, const geometry *g, const float *acc, int64_t width, const float *bias,
                        int64_t column, void *target, int is_half, int64_t begin) {
    for (int64_t v = 0; v < width && column + v < g->oc; v += LANES) {
        int64_t c = column + v, n = g->oc - c;
        vec b = bias ? load(bias, c, 0, n) : splat(0.f);
        for (int64_t p = 0; p < t->pixels; p++)
            store(target, (begin + p) * g->oc + c, is_half, n, load_float(acc + p * width + v) + b);
    }
}

/* target[pixel] = bias + sum over taps and events of value * weight[tap][channel]. Weights are [taps][c][row], `row`
 * a multiple of UNIT. A task is `run` target pixels. Returns 0, or 1 where memory ran out. */
int synapse_gather(const geometry *g, int kind, const void *source, const float *weight, int64_t row,
                   const float *bias, void *target, int is_half, int64_t run, int threads) {
    static void (*const kernels[2][4])(const tile *, const int32_t *, const float *, float *) = TABLE(gather);
    int64_t pixels = g->n * g->oh * g->ow, tasks = (pixels + run - 1) / run;
    int32_t *table = meetings(g);
    if (!table) return 1;
    TEAM {
        float *acc = scratch(TILE * BLOCK * sizeof(float));
        tile t = {0};
        failed = !acc;
        for (int64_t task; !failed && (task = take(&counter)) < tasks;) {
            int64_t stop = (task + 1) * run < pixels ? (task + 1) * run : pixels;
            for (int64_t begin = task * run; begin < stop && !failed; begin += TILE) {
                int64_t end = begin + TILE < stop ? begin + TILE : stop, units;
                failed = !tile_fill(&t, g, table, kind, source, (uint32_t)row, begin, end);
                for (int64_t column = 0; column < g->oc && !failed; column += units * UNIT) {
                    units = block_units(g->oc - column);
                    memset(acc, 0, t.pixels * units * UNIT * sizeof(float));
                    for (int64_t tap = 0; tap < g->kh * g->kw; tap++)
                        kernels[kind != BITS][units - 1](&t, t.met + tap * t.pixels,
                                                         weight + tap * g->c * row + column, acc);
                    write_block(&t, g, acc, units * UNIT, bias, column, target, is_half, begin);
                }
            }
        }
        tile_free(&t);
        free(acc);
    }
    free(table);
    return failed;
}

/* Fires one block of a tile's neurons from its accumulators. */
INLINE int64_t fire_block(const neuron *n, const tile *t, const geometry *g, const float *acc, int64_t width,
                          const float *bias, int64_t column, float *state, int first, void *spikes, void *membrane,
                          int is_half, int64_t begin) {
    int64_t count = 0;
    for (int64_t v = 0; v < width && column + v < g->oc; v += LANES) {
        int64_t c = column + v, left = g->oc - c;
        vec b = bias ? load(bias, c, 0, left) : splat(0.f);
        for (int64_t p = 0; p < t->pixels; p++)
            count += fire(n, load_float(acc + p * width + v) + b, state + c * TILE + p * LANES, first, spikes, membrane,
                          (begin + p) * g->oc + c, is_half, left);
    }
    return count;
}

/* FP whole: gathers the current of a tile and fires its neurons, step by step, so that the current never leaves the
 * accumulators. The geometry's images are steps x batch; fired[task][steps] counts the spikes. */
int layer_forward(const geometry *g, int kind, const void *source, const float *weight, int64_t row,
                  const float *bias, const neuron *n, int64_t steps, void *spikes, void *membrane, int is_half,
                  int64_t *fired, int64_t run, int threads) {
    static void (*const kernels[2][4])(const tile *, const int32_t *, const float *, float *) = TABLE(gather);
    int64_t pixels = g->n / steps * g->oh * g->ow, tasks = (pixels + run - 1) / run;
    int32_t *table = meetings(g);
    if (!table) return 1;
    TEAM {
        float *acc = scratch(TILE * BLOCK * sizeof(float));
        float *state = scratch(TILE * (g->oc + BLOCK) * sizeof(float));
        tile *tiles = calloc(steps, sizeof(tile));
        neuron k = *n;
        failed = !acc || !state || !tiles;
        for (int64_t task; !failed && (task = take(&counter)) < tasks;) {
            int64_t stop = (task + 1) * run < pixels ? (task + 1) * run : pixels;
            for (int64_t at = task * run; at < stop && !failed; at += TILE)
                for (int64_t step = 0; step < steps && !failed; step++) {
                    tile *t = tiles + step;
                    int64_t begin = step * pixels + at, end = step * pixels + (at + TILE < stop ? at + TILE : stop);
                    int64_t units, count = 0;
                    failed = !tile_fill(t, g, table, kind, source, (uint32_t)row, begin, end);
                    for (int64_t column = 0; column < g->oc && !failed; column += units * UNIT) {
                        units = block_units(g->oc - column);
                        memset(acc, 0, t->pixels * units * UNIT * sizeof(float));
                        for (int64_t tap = 0; tap < g->kh * g->kw; tap++)
                            kernels[kind != BITS][units - 1](t, t->met + tap * t->pixels,
                                                             weight + tap * g->c * row + column, acc);
                        if (is_half && k.reset == HARD) { /* the common case, specialised */
                            k.reset = HARD;
                            count += fire_block(&k, t, g, acc, units * UNIT, bias, column, state, !step, spikes,
                                                membrane, 1, begin);
                        } else {
                            count += fire_block(&k, t, g, acc, units * UNIT, bias, column, state, !step, spikes,
                                                membrane, is_half, begin);
                        }
                    }
                    fired[task * steps + step] += count;
                }
        }
        for (int64_t step = 0; tiles && step < steps; step++) tile_free(tiles + step);
        free(tiles);
        free(state);
        free(acc);
    }
    free(table);
    return failed;
}

/* One block of the tile's gradient as floats [pixels][width]; marks the pixels where any of it is not 0. */
static void read_gradient(const geometry *g, const void *grad, int is_half, int64_t width, int64_t column,
                          int64_t begin, int64_t pixels, float *out, uint8_t *live) {
    for (int64_t p = 0; p < pixels; p++) {
        uint32_t any = 0;
        for (int64_t v = 0; v < width; v += LANES) {
            vec x = load(grad, (begin + p) * g->oc + column + v, is_half, g->oc - column - v);
            any |= nonzero_bits(x);
            store_float(out + p * width + v, x);
        }
        live[p] = any != 0;
    }
}

/* partial[chunk][tap][c][row] = sum over the target pixels of a chunk of gradient x event. A task is one block of
 * output channels in one chunk: what is added to what depends on the shape alone, never on the number of threads. */
int synapse_scatter(const geometry *g, int kind, const void *source, const void *grad, int is_half, float *partial,
                    int64_t row, int64_t chunks, int threads) {
    static void (*const kernels[2][4])(const tile *, const int32_t *, const float *, const uint8_t *, float *) =
        TABLE(scatter);
    int64_t taps = g->kh * g->kw, pixels = g->n * g->oh * g->ow, blocks = (g->oc + BLOCK - 1) / BLOCK;
    int32_t *table = meetings(g);
    if (!table) return 1;
    TEAM {
        float *rows = scratch(TILE * BLOCK * sizeof(float));
        float *acc = scratch(taps * g->c * BLOCK * sizeof(float));
        tile t = {0};
        failed = !rows || !acc;
        for (int64_t task; !failed && (task = take(&counter)) < chunks * blocks;) {
            int64_t chunk = task / blocks, column = task % blocks * BLOCK;
            int64_t units = block_units(g->oc - column), width = units * UNIT;
            int64_t begin = pixels * chunk / chunks, end = pixels * (chunk + 1) / chunks;
            memset(acc, 0, taps * g->c * width * sizeof(float));
            t.count = 0; /* lists of another chunk have other offsets */
            for (; begin < end; begin += TILE) {
                uint8_t live[TILE];
                int64_t stop = begin + TILE < end ? begin + TILE : end;
                failed = !tile_fill(&t, g, table, kind, source, (uint32_t)width, begin, stop);
                if (failed) break;
                read_gradient(g, grad, is_half, width, column, begin, t.pixels, rows, live);
                for (int64_t tap = 0; tap < taps; tap++)
                    kernels[kind != BITS][units - 1](&t, t.met + tap * t.pixels, rows, live,
                                                     acc + tap * g->c * width);
            }
            float *out = partial + chunk * taps * g->c * row + column;
            for (int64_t i = 0; i < taps * g->c; i++) memcpy(out + i * row, acc + i * width, width * sizeof(float));
        }
        tile_free(&t);
        free(rows);
        free(acc);
    }
    free(table);
    return failed;
}
