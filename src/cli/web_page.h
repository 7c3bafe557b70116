// The chat page, web/chat.html, embedded at build time.
#pragma once

#include <string_view>

namespace baton::web {

extern const std::string_view kChatPage;

}  // namespace baton::web
