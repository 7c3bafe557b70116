// A small line and dot plot as SVG text: axes with round ticks, grid, legend. Colours are CSS
// classes (s0..s5, axis, grid), so that the page decides them. Pure.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace baton::bench::serving {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;
  bool dots = false;  // else a line
};

struct Plot {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  bool log_x = false;   // points with x <= 0 are left out
  bool log_y = false;   // points with y <= 0 are left out
  bool zero_y = false;  // the axis begins at 0: for rates, whose ratio the eye compares
};

// Values that are not finite are left out. "" when nothing is left to draw.
std::string ToSvg(const Plot& plot);

// &, <, >, " and ' replaced.
std::string EscapeHtml(std::string_view text);

// Round tick values that span [low, high]: about `wanted` of 1, 2 or 5 times a power of ten.
std::vector<double> RoundTicks(double low, double high, int wanted);

}  // namespace baton::bench::serving
