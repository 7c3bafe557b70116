#include "common/log.h"

#include <spdlog/sinks/stdout_sinks.h>

namespace baton::log {

void Init(std::string_view level, std::string_view tag) {
  auto logger = std::make_shared<spdlog::logger>(
      "baton", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  const std::string suffix = tag.empty() ? "" : " " + std::string(tag);
  logger->set_pattern("[%Y-%m-%d %H:%M:%S" + suffix + "] %^%v%$");
  if (level == "debug") logger->set_level(spdlog::level::debug);
  else if (level == "warning" || level == "warn") logger->set_level(spdlog::level::warn);
  else if (level == "error" || level == "critical") logger->set_level(spdlog::level::err);
  else logger->set_level(spdlog::level::info);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace baton::log
