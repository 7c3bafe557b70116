// Renders templates for differential.py: one JSON object a line on stdin,
// {"template": text, "variables": {...}, "bos_token", "eos_token"}, one result a line on stdout,
// {"text": ...} or {"error": ...}. strftime_now always says 2026-11-22 12:00:00.
#include <ctime>
#include <iostream>
#include <string>

#include "common/json.h"
#include "tokenizer/chat_template.h"

namespace {

baton::json::object Render(const baton::json::object& request) {
  baton::tokenizer::ChatRenderInput input;
  input.now = std::tm{.tm_hour = 12, .tm_mday = 22, .tm_mon = 10, .tm_year = 126};
  input.extra = request.at("variables").as_object();
  if (const auto* bos = request.if_contains("bos_token")) input.bos_token = bos->as_string();
  if (const auto* eos = request.if_contains("eos_token")) input.eos_token = eos->as_string();
  const auto parsed =
      baton::tokenizer::ChatTemplate::Parse(std::string(request.at("template").as_string()));
  if (!parsed.ok()) return {{"error", parsed.status().message()}};
  const auto text = parsed->Render(input);
  if (!text.ok()) return {{"error", text.status().message()}};
  return {{"text", *text}};
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    const auto request = baton::json::Parse(line);
    if (!request.ok()) {
      std::cout << "{\"error\": \"driver: bad request\"}" << std::endl;
      continue;
    }
    std::cout << baton::json::serialize(Render(request->as_object())) << std::endl;
  }
}
