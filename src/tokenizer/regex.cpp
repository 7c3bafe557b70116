#include "tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "tokenizer/regex_syntax.h"

namespace baton::tokenizer {
namespace {

constexpr size_t kMaxPatternBytes = 64 * 1024;
constexpr uint32_t kMatchLimit = 20'000'000;       // backtracking steps of one match
constexpr uint32_t kHeapLimitKib = 64 * 1024;      // interpreter, where there is no JIT
constexpr size_t kJitStackStartBytes = 64 * 1024;  // only when PCRE2's own 32 KiB were too little
constexpr size_t kJitStackMaxBytes = 64 * 1024 * 1024;

std::string ErrorText(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct Regex::Code {
  pcre2_code* compiled = nullptr;
  bool jit = false;

  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(compiled); }

  static Result<std::shared_ptr<const Code>> Make(std::string_view pattern, uint32_t options) {
    if (pattern.size() > kMaxPatternBytes)
      return Error(baton::Code::kUnsupported, "a pattern of {} bytes; at most {} are accepted",
                   pattern.size(), kMaxPatternBytes);
    int error = 0;
    PCRE2_SIZE offset = 0;
    auto code = std::make_shared<Code>();
    code->compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   options, &error, &offset, nullptr);
    if (!code->compiled)
      return Error(baton::Code::kInvalidArgument, "the pattern {} fails at offset {}: {}", pattern,
                   offset, ErrorText(error));
    code->jit = pcre2_jit_compile(code->compiled, PCRE2_JIT_COMPLETE) == 0;
    return std::shared_ptr<const Code>(std::move(code));
  }
};

Result<Regex> Regex::Compile(std::string_view pattern) {
  auto translated = TranslatePattern(pattern);
  if (!translated.ok()) return translated.status();
  // Oniguruma's ^ and $ always hold at line ends.
  auto code = Code::Make(*translated, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE |
                                          PCRE2_NEVER_BACKSLASH_C);
  if (!code.ok()) return code.status();
  return Regex(std::move(*code));
}

Result<Regex> Regex::CompileLiteral(std::string_view text) {
  auto code = Code::Make(text, PCRE2_UTF | PCRE2_LITERAL);
  if (!code.ok()) return code.status();
  return Regex(std::move(*code));
}

struct RegexMatcher::Scratch {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;

  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
};

RegexMatcher::RegexMatcher(const Regex& regex)
    : code_(regex.code_), scratch_(std::make_unique<Scratch>()) {
  scratch_->data = pcre2_match_data_create(1, nullptr);  // we ask for the whole match only
  scratch_->context = pcre2_match_context_create(nullptr);
  BATON_CHECK(scratch_->data && scratch_->context, "out of memory");
  pcre2_set_match_limit(scratch_->context, kMatchLimit);
  pcre2_set_heap_limit(scratch_->context, kHeapLimitKib);
}

RegexMatcher::~RegexMatcher() = default;

Result<std::optional<Span>> RegexMatcher::Find(std::string_view subject, size_t from) {
  const auto match = [&] {
    const auto* text = reinterpret_cast<PCRE2_SPTR>(subject.data());
    return code_->jit ? pcre2_jit_match(code_->compiled, text, subject.size(), from, 0,
                                        scratch_->data, scratch_->context)
                      : pcre2_match(code_->compiled, text, subject.size(), from,
                                    PCRE2_NO_UTF_CHECK, scratch_->data, scratch_->context);
  };
  int found = match();
  if (found == PCRE2_ERROR_JIT_STACKLIMIT && !scratch_->stack) {
    scratch_->stack = pcre2_jit_stack_create(kJitStackStartBytes, kJitStackMaxBytes, nullptr);
    pcre2_jit_stack_assign(scratch_->context, nullptr, scratch_->stack);
    found = match();
  }
  if (found == PCRE2_ERROR_NOMATCH) return std::optional<Span>();
  if (found < 0)
    return Error(Code::kResourceExhausted, "splitting the text by its pattern failed: {}",
                 ErrorText(found));
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(scratch_->data);
  // A look-behind trick can end a match before its start; nothing sensible can be cut there.
  if (ends[1] < ends[0] || ends[0] < from)
    return Error(Code::kUnsupported, "the split pattern reports a match that ends before it starts");
  return std::optional<Span>(Span{ends[0], ends[1]});
}

}  // namespace baton::tokenizer
