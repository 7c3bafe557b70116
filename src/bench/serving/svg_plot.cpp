#include "bench/serving/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace baton::bench::serving {
namespace {

constexpr double kWidth = 560, kHeight = 300, kLeft = 64, kRight = 14, kTop = 30, kBottom = 46;

// One axis: values to pixels.
class Axis {
 public:
  Axis(double low, double high, bool log, double from, double to)
      : log_(log), from_(from), to_(to) {
    if (log_) {
      ticks_ = DecadeTicks(low, high);
    } else {
      if (low > 0 && low < 0.5 * high) low = 0;
      if (high <= low) high = low + 1;
      ticks_ = RoundTicks(low, high, 6);
    }
    low_ = Scale(std::min(low, ticks_.front()));
    high_ = Scale(std::max(high, ticks_.back()));
    if (high_ <= low_) high_ = low_ + 1;
  }
  double At(double v) const { return from_ + (Scale(v) - low_) / (high_ - low_) * (to_ - from_); }
  const std::vector<double>& ticks() const { return ticks_; }

 private:
  double Scale(double v) const { return log_ ? std::log10(v) : v; }
  static std::vector<double> DecadeTicks(double low, double high) {
    std::vector<double> ticks;
    const int first = static_cast<int>(std::floor(std::log10(low))),
              last = static_cast<int>(std::ceil(std::log10(high)));
    for (int e = first; e <= std::max(last, first + 1); ++e) {
      ticks.push_back(std::pow(10.0, e));
      if (last - first <= 2 && e < last) {
        ticks.push_back(2 * std::pow(10.0, e));
        ticks.push_back(5 * std::pow(10.0, e));
      }
    }
    // No empty space beyond the data.
    while (ticks.size() > 2 && ticks[1] <= low) ticks.erase(ticks.begin());
    while (ticks.size() > 2 && ticks[ticks.size() - 2] >= high) ticks.pop_back();
    return ticks;
  }

  bool log_;
  double from_, to_, low_ = 0, high_ = 1;
  std::vector<double> ticks_;
};

std::string TickText(double v) {
  if (std::abs(v) >= 1e6) return fmt::format("{:g}M", v / 1e6);
  if (std::abs(v) >= 1e4) return fmt::format("{:g}k", v / 1e3);
  return fmt::format("{:g}", std::abs(v) < 1e-12 ? 0.0 : v);
}

bool Usable(const Plot& plot, const std::pair<double, double>& p) {
  return std::isfinite(p.first) && std::isfinite(p.second) && (!plot.log_x || p.first > 0) &&
         (!plot.log_y || p.second > 0);
}

std::string Grid(const Plot& plot, const Axis& x, const Axis& y) {
  std::string out;
  const double bottom = kHeight - kBottom, right = kWidth - kRight;
  for (const double v : x.ticks()) {
    out += fmt::format(
        "<line class=\"grid\" x1=\"{0:.1f}\" y1=\"{1}\" x2=\"{0:.1f}\" y2=\"{2}\"/>"
        "<text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4}</text>\n",
        x.At(v), kTop, bottom, bottom + 16, TickText(v));
  }
  for (const double v : y.ticks()) {
    out += fmt::format(
        "<line class=\"grid\" x1=\"{0}\" y1=\"{1:.1f}\" x2=\"{2}\" y2=\"{1:.1f}\"/>"
        "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>\n",
        kLeft, y.At(v), right, kLeft - 6, y.At(v) + 4, TickText(v));
  }
  out += fmt::format("<path class=\"axis\" d=\"M{0} {1}V{2}H{3}\"/>\n", kLeft, kTop, bottom, right);
  out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                     (kLeft + right) / 2, kHeight - 10, EscapeHtml(plot.x_label));
  out += fmt::format(
      "<text transform=\"translate(14 {:.1f}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
      (kTop + bottom) / 2, EscapeHtml(plot.y_label));
  return out;
}

std::string Curve(const Plot& plot, const Series& series, size_t index, const Axis& x,
                  const Axis& y) {
  std::string path, dots;
  for (const auto& p : series.points) {
    if (!Usable(plot, p)) continue;
    const double px = x.At(p.first), py = y.At(p.second);
    if (series.dots) {
      dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"1.6\"/>", px, py);
    } else {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", px, py);
      if (series.points.size() <= 40)
        dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>", px, py);
    }
  }
  std::string out;
  if (!path.empty()) out += fmt::format("<path class=\"line s{}\" d=\"{}\"/>\n", index % 6, path);
  if (!dots.empty()) out += fmt::format("<g class=\"dot s{}\">{}</g>\n", index % 6, dots);
  return out;
}

std::string Legend(const Plot& plot) {
  std::string out;
  double x = kLeft + 8;
  for (size_t i = 0; i < plot.series.size() && plot.series.size() > 1; ++i) {
    out += fmt::format(
        "<g class=\"dot s{}\"><circle cx=\"{:.0f}\" cy=\"22\" r=\"4\"/></g><text x=\"{:.0f}\" "
        "y=\"26\">{}</text>\n",
        i % 6, x, x + 8, EscapeHtml(plot.series[i].name));
    x += 26 + 6.5 * static_cast<double>(plot.series[i].name.size());
  }
  return out;
}

}  // namespace

std::vector<double> RoundTicks(double low, double high, int wanted) {
  const double rough = (high - low) / std::max(wanted, 1);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  const double step = power * (rough <= power       ? 1
                               : rough <= 2 * power ? 2
                               : rough <= 5 * power ? 5
                                                    : 10);
  std::vector<double> ticks;
  const double first = std::floor(low / step);
  for (double i = first; i * step < high + step * (1 - 1e-9) && ticks.size() < 100; ++i)
    ticks.push_back(i * step);
  return ticks;
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

std::string ToSvg(const Plot& plot) {
  bool any = false;
  double x_low = 0, x_high = 0, y_low = 0, y_high = 0;
  for (const Series& s : plot.series) {
    for (const auto& p : s.points) {
      if (!Usable(plot, p)) continue;
      x_low = any ? std::min(x_low, p.first) : p.first;
      x_high = any ? std::max(x_high, p.first) : p.first;
      y_low = any ? std::min(y_low, p.second) : p.second;
      y_high = any ? std::max(y_high, p.second) : p.second;
      any = true;
    }
  }
  if (!any) return "";
  if (plot.zero_y) y_low = std::min(y_low, 0.0);
  const Axis x(x_low, x_high, plot.log_x, kLeft, kWidth - kRight),
      y(y_low, y_high, plot.log_y, kHeight - kBottom, kTop);
  std::string out = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
                                kWidth, kHeight, EscapeHtml(plot.title));
  out += fmt::format("<text class=\"title\" x=\"{}\" y=\"13\">{}</text>\n", kLeft,
                     EscapeHtml(plot.title));
  out += Legend(plot) + Grid(plot, x, y);
  for (size_t i = 0; i < plot.series.size(); ++i) out += Curve(plot, plot.series[i], i, x, y);
  return out + "</svg>\n";
}

}  // namespace baton::bench::serving
