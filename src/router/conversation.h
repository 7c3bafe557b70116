// The text of a request as the prefix-aware policies see it, straight from the body's bytes.
//
// A chat is its tools, then for every message role, content and whatever else it has, in that order
// whatever the order of the members; so the text of a conversation's next turn begins with the text
// of this one. Strings are taken as they are written (escapes not resolved), lists as their JSON:
// what matters is that equal prompts look equal. Builds no tree and allocates nothing. Pure.
#pragma once

#include <string_view>

#include "router/bootstrap.h"
#include "router/policies/prefix_digest.h"

namespace baton::router {

// `facts` must come from InspectBody(api, body).
PrefixDigest DigestPrompt(Api api, std::string_view body, const BodyFacts& facts);

}  // namespace baton::router
