#include "common/version.h"

namespace baton {

const std::string_view kVersion = BATON_VERSION;

}  // namespace baton
