// A file that gets the log's lines too.
#pragma once

#include <string>

#include "common/status.h"

namespace baton::log {

// Beside stderr; past 100 MB it becomes PATH.1 and so on, five of them. After Init, before threads
// start. kInvalidArgument when the file cannot be written.
Status AddFile(const std::string& path);

}  // namespace baton::log
