#include "common/log.h"

#include <spdlog/sinks/stdout_sinks.h>

namespace baton::log {

namespace {

spdlog::level::level_enum LevelOf(std::string_view level) {
  if (level == "debug") return spdlog::level::debug;
  if (level == "warning" || level == "warn") return spdlog::level::warn;
  if (level == "error" || level == "critical") return spdlog::level::err;
  return spdlog::level::info;
}

}  // namespace

void Init(std::string_view level, std::string_view tag) {
  auto logger = std::make_shared<spdlog::logger>(
      "baton", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  const std::string suffix = tag.empty() ? "" : " " + std::string(tag);
  logger->set_pattern("[%Y-%m-%d %H:%M:%S" + suffix + "] %^%v%$");
  logger->set_level(LevelOf(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

void SetLevel(std::string_view level) { spdlog::set_level(LevelOf(level)); }

}  // namespace baton::log
