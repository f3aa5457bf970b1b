#include "text/unicode_data.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace colossus {

namespace internal {
extern const uint32_t kCategoryRuns[];
extern const int kNumCategoryRuns;
extern const uint32_t kScriptRuns[];
extern const int kNumScriptRuns;
extern const uint32_t kCombiningClassRuns[];
extern const int kNumCombiningClassRuns;
extern const uint32_t kDecompositions[];
extern const int kNumDecompositions;
extern const uint32_t kCompositions[];
extern const int kNumCompositions;
extern const uint32_t kLowerCases[];
extern const int kNumLowerCases;
}  // namespace internal

namespace {

constexpr uint32_t kEnd = 0x110000;

// Hangul syllables are composed by arithmetic (Unicode 16, section 3.12).
constexpr uint32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTrails = 0x11A7;
constexpr uint32_t kNumLeads = 19, kNumVowels = 21, kNumTrails = 28,
                   kNumSyllables = kNumLeads * kNumVowels * kNumTrails;

// One byte per code point, made from runs on first use: an inner loop then needs no search.
std::vector<uint8_t> expand_runs(const uint32_t* runs, int num_runs, int bits) {
  std::vector<uint8_t> table(kEnd);
  for (int i = 0; i < num_runs; ++i) {
    const uint32_t first = runs[i] >> bits;
    const uint32_t end = i + 1 == num_runs ? kEnd : runs[i + 1] >> bits;
    std::fill(table.begin() + first, table.begin() + end, static_cast<uint8_t>(runs[i] & ((1u << bits) - 1)));
  }
  return table;
}

// Of each code point, where its entries begin in kDecompositions (+ 1).
struct Decompositions {
  std::unordered_map<uint32_t, uint32_t> canonical;
  std::unordered_map<uint32_t, uint32_t> compatible;

  Decompositions() {
    for (int at = 0; at < internal::kNumDecompositions;) {
      const uint32_t header = internal::kDecompositions[at];
      ((header & 0x80) != 0 ? compatible : canonical)[header >> 8] = static_cast<uint32_t>(at);
      at += 1 + static_cast<int>(header & 0x7F);
    }
  }
};

struct CategoryName {
  std::string_view name;
  uint32_t mask;
};

constexpr std::array<std::string_view, 30> kCategoryNames = {
    "Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps",
    "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co"};
constexpr std::array<std::string_view, 12> kScriptNames = {"",       "Han",    "Hiragana", "Katakana",
                                                           "Hangul", "Latin",  "Greek",    "Cyrillic",
                                                           "Arabic", "Hebrew", "Thai",     "Devanagari"};

}  // namespace

Category category_of(uint32_t code_point) {
  static const std::vector<uint8_t> table = expand_runs(internal::kCategoryRuns, internal::kNumCategoryRuns, 5);
  return code_point < kEnd ? static_cast<Category>(table[code_point]) : Category::kCn;
}

Script script_of(uint32_t code_point) {
  static const std::vector<uint8_t> table = expand_runs(internal::kScriptRuns, internal::kNumScriptRuns, 5);
  return code_point < kEnd ? static_cast<Script>(table[code_point]) : Script::kOther;
}

uint8_t combining_class(uint32_t code_point) {
  static const std::vector<uint8_t> table =
      expand_runs(internal::kCombiningClassRuns, internal::kNumCombiningClassRuns, 8);
  return code_point < kEnd ? table[code_point] : 0;
}

std::optional<uint32_t> category_mask(std::string_view name) {
  uint32_t mask = 0;
  for (size_t i = 0; i < kCategoryNames.size(); ++i) {
    if (name == kCategoryNames[i] || (name.size() == 1 && name[0] == kCategoryNames[i][0])) mask |= 1u << i;
  }
  return mask == 0 ? std::nullopt : std::optional(mask);
}

std::optional<Script> script_named(std::string_view name) {
  for (size_t i = 1; i < kScriptNames.size(); ++i) {
    if (name == kScriptNames[i]) return static_cast<Script>(i);
  }
  return std::nullopt;
}

bool is_white_space(uint32_t code_point) { return code_point < kEnd && (unicode_classes()[code_point] & kSpace) != 0; }

bool is_word_character(uint32_t code_point) {
  static const uint32_t mask =
      *category_mask("L") | *category_mask("M") | *category_mask("Nd") | *category_mask("Nl") | *category_mask("Pc");
  // Other_Alphabetic beyond letters and marks: the circled and squared Latin letters.
  return (category_bit(code_point) & mask) != 0 || (code_point >= 0x24B6 && code_point <= 0x24E9) ||
         (code_point >= 0x1F130 && code_point <= 0x1F149) || (code_point >= 0x1F150 && code_point <= 0x1F169) ||
         (code_point >= 0x1F170 && code_point <= 0x1F189);
}

void append_decomposition(std::vector<uint32_t>& out, uint32_t code_point, bool compatibility) {
  static const Decompositions decompositions;
  if (code_point < 0xA0) {
    out.push_back(code_point);
    return;
  }
  if (code_point - kSyllables < kNumSyllables) {
    const uint32_t index = code_point - kSyllables;
    out.push_back(kLeads + index / (kNumVowels * kNumTrails));
    out.push_back(kVowels + index % (kNumVowels * kNumTrails) / kNumTrails);
    if (index % kNumTrails != 0) out.push_back(kTrails + index % kNumTrails);
    return;
  }
  for (const auto* entries : {compatibility ? &decompositions.compatible : nullptr, &decompositions.canonical}) {
    if (entries == nullptr) continue;
    if (const auto found = entries->find(code_point); found != entries->end()) {
      const uint32_t* entry = internal::kDecompositions + found->second;
      out.insert(out.end(), entry + 1, entry + 1 + (*entry & 0x7F));
      return;
    }
  }
  out.push_back(code_point);
}

uint32_t composition(uint32_t first, uint32_t second) {
  static const std::unordered_map<uint64_t, uint32_t> pairs = [] {
    std::unordered_map<uint64_t, uint32_t> made;
    for (int i = 0; i < internal::kNumCompositions; i += 3) {
      made[static_cast<uint64_t>(internal::kCompositions[i]) << 32 | internal::kCompositions[i + 1]] =
          internal::kCompositions[i + 2];
    }
    return made;
  }();
  if (first - kLeads < kNumLeads && second - kVowels < kNumVowels) {
    return kSyllables + ((first - kLeads) * kNumVowels + (second - kVowels)) * kNumTrails;
  }
  if (first - kSyllables < kNumSyllables && (first - kSyllables) % kNumTrails == 0 && second - kTrails - 1 < 27) {
    return first + (second - kTrails);
  }
  const auto found = pairs.find(static_cast<uint64_t>(first) << 32 | second);
  return found == pairs.end() ? 0 : found->second;
}

void append_lower_case(std::vector<uint32_t>& out, uint32_t code_point) {
  static const std::unordered_map<uint32_t, uint32_t> lower = [] {
    std::unordered_map<uint32_t, uint32_t> made;
    for (int i = 0; i < internal::kNumLowerCases; i += 2) made[internal::kLowerCases[i]] = internal::kLowerCases[i + 1];
    return made;
  }();
  if (code_point < 0x80) {
    out.push_back(code_point >= 'A' && code_point <= 'Z' ? code_point + 32 : code_point);
  } else if (code_point == 0x130) {
    out.insert(out.end(), {'i', 0x307});
  } else {
    const auto found = lower.find(code_point);
    out.push_back(found == lower.end() ? code_point : found->second);
  }
}

}  // namespace colossus
