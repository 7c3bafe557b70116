// Seeded random numbers of the load generator: the same seed gives the same workload on every
// machine and standard library (std:: distributions promise no such thing).
//
// A SplitMix64 sequence (Steele, Lea, Flood 2014): cheap to seed, so each prompt segment has its
// own stream and equal seeds make equal text. Not for secrets. Not thread-safe.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace baton::bench::serving {

// One step of mixing: also the way to derive a seed from two numbers.
inline uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}
inline uint64_t DeriveSeed(uint64_t seed, uint64_t stream) {
  return Mix(Mix(seed + 0x9E3779B97F4A7C15ull) ^ (stream * 0xD1342543DE82EF95ull + 1));
}

class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(Mix(seed)) {}

  uint64_t Next() { return Mix(state_ += 0x9E3779B97F4A7C15ull); }
  // In [0, 1), 53 bits.
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }
  // In [0, n); n > 0. The bias is below n / 2^64.
  uint64_t Below(uint64_t n) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(Next()) * n) >> 64);
  }
  // In [low, high].
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Below(static_cast<uint64_t>(high - low) + 1));
  }
  // Mean 1.
  double Exponential() { return -std::log1p(-Uniform()); }
  // Mean 0, deviation 1 (Box-Muller; the second value is dropped, so draws stay independent of
  // history).
  double Normal() {
    const double radius = std::sqrt(2 * Exponential());
    return radius * std::cos(2 * std::numbers::pi * Uniform());
  }
  // Shape k > 0, scale 1 (Marsaglia and Tsang 2000; shapes below 1 by their power of a uniform).
  double Gamma(double shape) {
    if (shape < 1) {
      const double u = 1 - Uniform();
      return Gamma(shape + 1) * std::pow(u, 1 / shape);
    }
    const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
    while (true) {
      const double x = Normal();
      const double v = std::pow(1 + c * x, 3);
      if (v <= 0) continue;
      if (std::log(1 - Uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
    }
  }

 private:
  uint64_t state_;
};

}  // namespace baton::bench::serving
