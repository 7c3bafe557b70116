// Time. Pure state machines take a TimePoint as an argument; only code at the edge reads Now().
#pragma once

#include <chrono>

namespace baton {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = Clock::duration;
using namespace std::chrono_literals;

inline TimePoint Now() { return Clock::now(); }
inline double Seconds(Duration d) { return std::chrono::duration<double>(d).count(); }
inline double Milliseconds(Duration d) { return std::chrono::duration<double, std::milli>(d).count(); }
inline double UnixSeconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace baton
