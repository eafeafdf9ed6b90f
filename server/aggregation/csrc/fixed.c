/* Sums in fixed point: sums[i] += weight * round(x[i] * 2^40), modulo 2^64, and the largest |x| on the way.

   Adding 1.5 * 2^52 to a double of magnitude below 2^51 rounds it to a whole number, ties to even, and leaves that
   number in the low bits: exact for |x| <= 64 and faster than a conversion. For larger values and for what is no number
   the bits added are meaningless, but the same again with -weight takes them out: sums modulo 2^64 form a group. */

#include <stdint.h>
#include <string.h>

#define SCALE 0x1p40
#define SHIFTER 0x1.8p52
#define SHIFTER_BITS 0x4338000000000000u

/* The bits of the largest |x|; those of infinity and NaN are above those of every number. Where `first` is not 0 the
   sums count as 0 and are not read: memory that nobody has touched yet is then touched once. */
uint32_t fixed_add(uint64_t *restrict sums, const float *restrict x, int64_t n, int64_t weight, int32_t first) {
  int32_t largest = 0;
  for (int64_t i = 0; i < n; i++) {
    int32_t bits;
    memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7fffffff;
    largest = bits > largest ? bits : largest;
    double shifted = (double)x[i] * SCALE + SHIFTER;
    uint64_t fixed;
    memcpy(&fixed, &shifted, sizeof fixed);
    fixed = (fixed - SHIFTER_BITS) * (uint64_t)weight;
    sums[i] = first ? fixed : sums[i] + fixed;
  }
  return (uint32_t)largest;
}

/* out[i] = sums[i] * unit. `out` may begin where `sums` does: what is written there was read before. */
void fixed_scale(const int64_t *sums, float *out, int64_t n, double unit) {
  enum { BLOCK = 512 };
  float scaled[BLOCK];
  for (int64_t start = 0; start < n; start += BLOCK) {
    int64_t count = n - start < BLOCK ? n - start : BLOCK;
    for (int64_t i = 0; i < count; i++)
      scaled[i] = (float)((double)sums[start + i] * unit);
    memcpy(out + start, scaled, (size_t)count * sizeof *scaled);
  }
}

/* The sum of (x[i] - y[i])^2 in doubles; lanes of their own let it be vectorised without another order of additions. */
double squared_distance(const float *restrict x, const float *restrict y, int64_t n) {
  enum { LANES = 16 };
  double sums[LANES] = {0};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int lane = 0; lane < LANES; lane++) {
      double difference = (double)x[i + lane] - (double)y[i + lane];
      sums[lane] += difference * difference;
    }
  double total = 0;
  for (int lane = 0; lane < LANES; lane++)
    total += sums[lane];
  for (; i < n; i++)
    total += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
  return total;
}
