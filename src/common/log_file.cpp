#include "common/log_file.h"

#include <spdlog/sinks/rotating_file_sink.h>

#include "common/log.h"
#include "common/log_format.h"

namespace baton::log {

namespace {

constexpr size_t kMaxFileBytes = 100 << 20;
constexpr size_t kOldFiles = 5;

}  // namespace

Status AddFile(const std::string& path) {
  try {
    auto file = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(path, kMaxFileBytes, kOldFiles);
    file->set_formatter(MakeFormatter("[%Y-%m-%d %H:%M:%S.%e] %l"));
    spdlog::default_logger()->sinks().push_back(std::move(file));
  } catch (const spdlog::spdlog_ex& e) {
    return Error(Code::kInvalidArgument, "cannot write {}: {}", path, e.what());
  }
  return Status::Ok();
}

}  // namespace baton::log
