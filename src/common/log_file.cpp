#include "common/log_file.h"

#include <spdlog/sinks/rotating_file_sink.h>

#include "common/log.h"

namespace baton::log {

namespace {

constexpr size_t kMaxFileBytes = 100 << 20;
constexpr size_t kOldFiles = 5;

}  // namespace

Status AddFile(const std::string& path) {
  try {
    auto file = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(path, kMaxFileBytes, kOldFiles);
    file->set_pattern("[%Y-%m-%d %H:%M:%S.%e] %l %v");
    spdlog::default_logger()->sinks().push_back(std::move(file));
  } catch (const spdlog::spdlog_ex& e) {
    return Error(Code::kInvalidArgument, "cannot write {}: {}", path, e.what());
  }
  return Status::Ok();
}

}  // namespace baton::log
