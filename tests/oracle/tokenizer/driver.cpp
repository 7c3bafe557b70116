// Test-only: answers compare.py on stdin/stdout. Arguments: a tokenizer.json, or --spec and a JSON
// file with the fields of BpeSpec. One request a line: {"text": ..., "add": bool, "parse": bool} or
// {"ids": [...], "skip": bool}; "bench": N repeats the encoding and reports MB per CPU second on stderr.
#include <chrono>
#include <ctime>
#include <fstream>
#include <iostream>
#include <sstream>

#include "common/json.h"
#include "tokenizer/tokenizer.h"

using namespace baton;
using namespace baton::tokenizer;

static std::string ReadAll(const char* path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

static Result<std::unique_ptr<Tokenizer>> FromSpec(const char* path) {
  auto parsed = json::Parse(ReadAll(path));
  if (!parsed.ok()) return parsed.status();
  const json::object& o = parsed->as_object();
  BpeSpec spec;
  spec.pre = std::string(o.at("pre").as_string());
  for (const auto& t : o.at("tokens").as_array()) spec.tokens.emplace_back(t.as_string());
  for (const auto& m : o.at("merges").as_array()) spec.merges.emplace_back(m.as_string());
  for (const auto& k : o.at("types").as_array())
    spec.kinds.push_back(static_cast<TokenKind>(k.as_int64()));
  return MakeBpeTokenizer(std::move(spec));
}

static std::string Stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip) {
  IncrementalDetokenizer detokenizer(tokenizer, skip);
  std::string out;
  for (const int32_t id : ids) detokenizer.Push(id, out);
  detokenizer.Flush(out);
  return out;
}

static json::value Answer(const Tokenizer& tokenizer, const json::object& request) {
  if (const json::value* ids_member = request.if_contains("ids")) {
    std::vector<int32_t> ids;
    for (const auto& id : ids_member->as_array()) ids.push_back(static_cast<int32_t>(id.as_int64()));
    const bool skip = request.at("skip").as_bool();
    return {{"text", tokenizer.Decode(ids, skip)}, {"streamed", Stream(tokenizer, ids, skip)}};
  }
  const std::string_view text(request.at("text").as_string());
  const EncodeOptions options{request.at("add").as_bool(), request.at("parse").as_bool()};
  auto ids = tokenizer.Encode(text, options);
  if (const json::value* repeats = request.if_contains("bench")) {
    const std::clock_t start = std::clock();
    for (int64_t i = 0; i < repeats->as_int64(); ++i) ids = tokenizer.Encode(text, options);
    const double took_s = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    std::cerr << "MB/s " << text.size() * 1e-6 * repeats->as_int64() / took_s << "\n";
  }
  if (!ids.ok()) return {{"error", ids.status().ToString()}};
  return {{"ids", json::array(ids->begin(), ids->end())}};
}

int main(int argc, char** argv) {
  const bool spec = argc == 3 && std::string_view(argv[1]) == "--spec";
  if (!spec && argc != 2) return 2;
  const auto start = std::chrono::steady_clock::now();
  auto tokenizer = spec ? FromSpec(argv[2]) : LoadTokenizerJson(argv[1]);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::cerr << "load " << took.count() << " s\n";
  if (!tokenizer.ok()) {
    std::cerr << tokenizer.status().ToString() << "\n";
    return 1;
  }
  for (std::string line; std::getline(std::cin, line);) {
    auto request = json::Parse(line);
    if (!request.ok()) {
      std::cerr << request.status().ToString() << "\n";
      return 1;
    }
    std::cout << json::serialize(Answer(**tokenizer, request->as_object())) << "\n";
  }
  return 0;
}
