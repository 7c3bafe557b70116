// What a browser says about the page that made a request. Scripts and tools say nothing of the kind,
// and could say anything: this guards people whose browser reaches a server that the page's author
// does not.
#pragma once

#include <string_view>

#include "http/message.h"

namespace baton::http {

// The Origin of a page from elsewhere; "" for no page, or one of this very host and port (by Host,
// which after DNS rebinding is the attacker's own name).
std::string_view ForeignOrigin(const Request& request);

// Browsers leave Origin out where a page loads an image or follows a link. To https and localhost
// they then say by Sec-Fetch-Site whether the page is from elsewhere.
bool IsFetchedCrossSite(const Request& request);

}  // namespace baton::http
