#include "common/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include "common/log_format.h"
#include "common/printable.h"

namespace baton::log {

namespace {

spdlog::level::level_enum LevelOf(std::string_view level) {
  if (level == "debug") return spdlog::level::debug;
  if (level == "warning" || level == "warn") return spdlog::level::warn;
  if (level == "error" || level == "critical") return spdlog::level::err;
  return spdlog::level::info;
}

// %v with escapes.
class PrintableText final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    text_.clear();
    AppendPrintable(text_, {message.payload.data(), message.payload.size()});
    out.append(text_.data(), text_.data() + text_.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<PrintableText>(); }

 private:
  std::string text_;
};

}  // namespace

std::unique_ptr<spdlog::formatter> MakeFormatter(const std::string& prefix) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<PrintableText>('*').set_pattern(prefix + " %*");
  return formatter;
}

void Init(std::string_view level, std::string_view tag) {
  auto logger = std::make_shared<spdlog::logger>(
      "baton", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  const std::string suffix = tag.empty() ? "" : " " + std::string(tag);
  logger->set_formatter(MakeFormatter("[%Y-%m-%d %H:%M:%S" + suffix + "]"));
  logger->set_level(LevelOf(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

void SetLevel(std::string_view level) { spdlog::set_level(LevelOf(level)); }

}  // namespace baton::log
