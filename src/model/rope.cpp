// Rotary frequencies as transformers computes them (modeling_rope_utils: default, linear, llama3,
// yarn after Peng et al., "YaRN", arXiv 2309.00071), in double and rounded once.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/config.h"

namespace baton::model {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

// Llama 3.1: long wavelengths are stretched, short ones kept, those between blended.
double ScaleLlama3(const RopeConfig& rope, double inv_freq) {
  const double wavelength = kTwoPi / inv_freq;
  if (wavelength < rope.original_context / rope.high_freq_factor) return inv_freq;
  if (wavelength > rope.original_context / rope.low_freq_factor) return inv_freq / rope.factor;
  const double smooth = (rope.original_context / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * inv_freq / rope.factor + smooth * inv_freq;
}

// YaRN: pairs that turn more than beta_fast times within the original context are kept, those
// that turn less than beta_slow times are stretched, with a linear ramp over the pairs between.
struct YarnRamp {
  double low, high;

  YarnRamp(const RopeConfig& rope, int rotary_dim) {
    const auto pair_of = [&](double turns) {
      return rotary_dim * std::log(rope.original_context / (turns * kTwoPi)) /
             (2 * std::log(rope.theta));
    };
    low = pair_of(rope.beta_fast);
    high = pair_of(rope.beta_slow);
    if (rope.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, rotary_dim - 1.0);
    if (low == high) high += 0.001;
  }
  // 0: keep the frequency, 1: divide it by the factor.
  double Stretch(int pair) const { return std::clamp((pair - low) / (high - low), 0.0, 1.0); }
};

double YarnMagnitude(const RopeConfig& rope) {
  const auto scale = [&](double m) {
    return rope.factor <= 1 ? 1.0 : 0.1 * m * std::log(rope.factor) + 1.0;
  };
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.mscale != 0 && rope.mscale_all_dim != 0) {
    return scale(rope.mscale) / scale(rope.mscale_all_dim);
  }
  return scale(1);
}

}  // namespace

RopeFrequencies ComputeRope(const RopeConfig& rope, int rotary_dim) {
  RopeFrequencies out;
  const int pairs = rotary_dim / 2;
  out.inv_freq.resize(pairs);
  const bool yarn = rope.scaling == RopeConfig::Scaling::kYarn;
  const std::optional<YarnRamp> ramp =
      yarn ? std::optional(YarnRamp(rope, rotary_dim)) : std::nullopt;
  if (yarn) out.magnitude = static_cast<float>(YarnMagnitude(rope));
  for (int i = 0; i < pairs; ++i) {
    double freq = std::pow(rope.theta, -2.0 * i / rotary_dim);
    switch (rope.scaling) {
      case RopeConfig::Scaling::kNone:
        break;
      case RopeConfig::Scaling::kLinear:
        freq /= rope.factor;
        break;
      case RopeConfig::Scaling::kLlama3:
        freq = ScaleLlama3(rope, freq);
        break;
      case RopeConfig::Scaling::kYarn: {
        const double stretch = ramp->Stretch(i);
        freq = freq / rope.factor * stretch + freq * (1 - stretch);
        break;
      }
    }
    if (!rope.frequency_factors.empty()) freq /= rope.frequency_factors[i];
    out.inv_freq[i] = static_cast<float>(freq);
  }
  return out;
}

}  // namespace baton::model
