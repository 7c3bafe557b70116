#include "http/route_table.h"

namespace baton::http {

void RouteTable::Add(std::string method, std::string path, Handler handler) {
  if (path.ends_with("/*")) {
    path.pop_back();
    below_[std::move(path)].emplace_back(std::move(method), std::move(handler));
  } else {
    exact_[std::move(path)].emplace_back(std::move(method), std::move(handler));
  }
}

const Handler* RouteTable::FindMethod(const Methods& methods, std::string_view method) {
  const Handler* any = nullptr;
  const Handler* get = nullptr;
  for (const auto& [name, handler] : methods) {
    if (name == method) return &handler;
    if (name == "*") any = &handler;
    if (name == "GET") get = &handler;
  }
  return method == "HEAD" && get ? get : any;
}

RouteTable::Match RouteTable::Find(std::string_view method, std::string_view path) const {
  Match match;
  const auto look = [&](const Methods& methods) {
    match.path_known = true;
    match.handler = FindMethod(methods, method);
    if (match.handler) return;
    for (const auto& [name, handler] : methods) {
      if (!match.allow.empty()) match.allow += ", ";
      match.allow += name;
      if (name == "GET") match.allow += ", HEAD";
    }
  };
  if (const auto found = exact_.find(path); found != exact_.end()) look(found->second);
  for (size_t end = path.size(); !match.handler && !below_.empty() && end > 0;) {
    const size_t slash = path.rfind('/', end - 1);
    if (slash == std::string_view::npos) break;
    if (const auto found = below_.find(path.substr(0, slash + 1)); found != below_.end())
      look(found->second);
    end = slash;
  }
  return match;
}

}  // namespace baton::http
