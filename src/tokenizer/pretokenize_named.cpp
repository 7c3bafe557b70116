// The pre-tokenizers that GGUF files name. Each pattern is the one in the model family's own
// tokenizer.json, so that ids agree with Hugging Face tokenizers; which name means which family is
// ggml's convention (`tokenizer.ggml.pre`).
#include <algorithm>
#include <array>

#include "tokenizer/pretokenize.h"
#include "tokenizer/tokenizer.h"

namespace baton::tokenizer {
namespace {

constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kDigits = R"(\p{N}+)";
constexpr std::string_view kDigitsUpTo3 = R"(\p{N}{1,3})";
constexpr std::string_view kLineBreak = R"([\r\n])";

// GPT-4's cl100k shape; llama3, qwen2 and their kin differ in how long a run of digits may be.
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";

// GPT-4o's o200k shape: words break before a capital.
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kKimiK2 =
    R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kDeepSeekV3Han = R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)";
constexpr std::string_view kDeepSeekV3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// The next list is DeepSeek LLM's own: the cased letters of Unicode, spelled out.
constexpr std::string_view kDeepSeekLlmLetters =
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅ"
    "ὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\\x{2126}ℨ\\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳ"
    "Ꙁ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}"
    "\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}"
    "\\x{1E900}-\\x{1E943}]+";
constexpr std::string_view kDeepSeekLlmPunctuation = R"(\s?[!-/:-~！-／：-～‘-‟\x{3000}-。]+)";
constexpr std::string_view kDeepSeekCjk = R"([\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";

constexpr std::string_view kBloom = R"( ?[^(\s|.,!?…。，、।۔،)]+)";
// Punctuation as Hugging Face counts it: Unicode's, and all of ASCII's.
constexpr std::string_view kFalconPunctuation = R"([\p{P}$+<=>^~|`]+)";
constexpr std::string_view kFalconDigits = "[0-9][0-9][0-9]";

constexpr size_t kMaxPatterns = 6;
constexpr size_t kMaxNames = 12;

struct Family {
  std::array<std::string_view, kMaxNames> names;
  std::array<std::string_view, kMaxPatterns> patterns;  // each isolates its matches
  bool ignore_merges = false;
  bool nfc = false;
  bool adds_bos = false;
};

constexpr Family kFamilies[] = {
    {{"gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais", "exaone4", "trillion", "granite-docling",
      "gigachat", "roberta-bpe", "mellum"},
     {kGpt2Pattern}},
    {{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"},
     {kDigit, kGpt2Pattern}},
    {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"},
     {kLlama3}, true, false, true},
    {{"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"}, {kLlama3}},
    {{"qwen2", "deepseek-r1-qwen", "megrez", "kormo"}, {kQwen2}, false, true},
    {{"stablelm2", "hunyuan", "grok-2"}, {kQwen2}},
    {{"qwen35"}, {kQwen35}, false, true},
    {{"seed-coder"}, {kSeedCoder}},
    {{"bailingmoe", "bailingmoe2", "llada-moe"}, {kBailing}},
    {{"gpt-4o", "llama4", "minimax-m2"}, {kGpt4o}},
    {{"tekken"}, {kTekken}, true, false, true},
    {{"kimi-k2"}, {kKimiK2}},
    {{"deepseek-v3", "hunyuan-dense"}, {kDigitsUpTo3, kDeepSeekV3Han, kDeepSeekV3}},
    {{"deepseek-llm"},
     {kLineBreak, kDeepSeekLlmLetters, kDeepSeekLlmPunctuation, R"(\s+$)", kDeepSeekCjk, kDigit}},
    {{"deepseek-coder"}, {kLineBreak, R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepSeekCjk, kDigit}},
    {{"falcon"}, {kFalconPunctuation, kGpt2Pattern, kFalconDigits}},
    {{"bloom", "gpt3-finnish", "poro-chat"}, {kBloom}},
    {{"viking"}, {kBloom, kDigit}},
    // What ggml applies to files that name nothing.
    {{"default"}, {R"([\p{P}$+<=>^~|]+)", kGpt2Pattern, kDigits, kFalconDigits}},
};

std::string KnownNames() {
  std::string out;
  for (const Family& family : kFamilies) {
    for (const std::string_view name : family.names) {
      if (name.empty()) continue;
      if (!out.empty()) out += ", ";
      out += name;
    }
  }
  return out;
}

const Family* FindFamily(std::string_view pre) {
  for (const Family& family : kFamilies)
    if (std::find(family.names.begin(), family.names.end(), pre) != family.names.end())
      return &family;
  return nullptr;
}

}  // namespace

bool AddsBosByDefault(std::string_view pre) {
  const Family* family = FindFamily(pre);
  return family && family->adds_bos;
}

Result<NamedPretokenizer> FindPretokenizer(std::string_view pre) {
  if (pre.empty()) pre = "default";
  const Family* family = FindFamily(pre);
  if (!family)
    return Error(Code::kUnsupported,
                 "unknown pre-tokenizer \"{}\"; use the model's tokenizer.json, or a file with one "
                 "of: {}",
                 pre, KnownNames());
  std::vector<PretokenizeStep> steps;
  for (const std::string_view pattern : family->patterns) {
    if (pattern.empty()) continue;
    auto regex = Regex::Compile(pattern);
    if (!regex.ok()) return regex.status();
    PretokenizeStep step;
    step.regex = std::move(*regex);
    steps.push_back(std::move(step));
  }
  return NamedPretokenizer{Pretokenizer(std::move(steps)), family->ignore_merges, family->nfc};
}

}  // namespace baton::tokenizer
