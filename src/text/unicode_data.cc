#include "text/unicode_data.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace colossus {

namespace internal {
extern const char kCategoryRuns[];
extern const char kScriptRuns[];
extern const char kCombiningClassRuns[];
extern const char kDecompositions[];
extern const char kCompositions[];
extern const char kLowerCases[];
}  // namespace internal

namespace {

constexpr uint32_t kEnd = 0x110000;

// Hangul syllables are composed by arithmetic (Unicode 16, section 3.12).
constexpr uint32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTrails = 0x11A7;
constexpr uint32_t kNumLeads = 19, kNumVowels = 21, kNumTrails = 28,
                   kNumSyllables = kNumLeads * kNumVowels * kNumTrails;

// The numbers of a generated table; unicode_data_table.cc tells how they are written.
class TableReader {
 public:
  explicit TableReader(const char* table) : at_(table) {}
  bool at_end() const { return *at_ == '\0'; }
  uint32_t number() {
    uint32_t value = 0;
    for (int shift = 0;; shift += 5) {
      const uint32_t digit = kDigits[static_cast<uint8_t>(*at_++)];
      value |= (digit & 31) << shift;
      if (digit < 32) return value;
    }
  }
  // `before` and the difference that follows.
  uint32_t number_from(uint32_t before) {
    const uint32_t value = number();
    return before + (value >> 1 ^ (0 - (value & 1)));
  }

 private:
  static constexpr std::array<uint8_t, 256> kDigits = [] {
    constexpr std::string_view kInOrder = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::array<uint8_t, 256> digits{};
    for (size_t i = 0; i < kInOrder.size(); ++i) digits[static_cast<uint8_t>(kInOrder[i])] = static_cast<uint8_t>(i);
    return digits;
  }();
  const char* at_;
};

template <class Visit>
void for_each_run(const char* runs, Visit&& visit) {
  TableReader reader(runs);
  uint32_t first = reader.number();
  while (!reader.at_end()) {
    const uint8_t value = static_cast<uint8_t>(reader.number());
    const uint32_t end = reader.at_end() ? kEnd : first + reader.number();
    visit(first, end, value);
    first = end;
  }
}

// One byte per code point, on first use: an inner loop then needs no search.
std::vector<uint8_t> expand_runs(const char* runs) {
  std::vector<uint8_t> table(kEnd);
  for_each_run(runs, [&](uint32_t first, uint32_t end, uint8_t value) {
    std::fill(table.begin() + first, table.begin() + end, value);
  });
  return table;
}

struct Decompositions {
  struct Entry {
    uint32_t first;  // in code_points
    uint32_t size;
  };
  std::vector<uint32_t> code_points;
  std::unordered_map<uint32_t, Entry> canonical;
  std::unordered_map<uint32_t, Entry> compatible;

  Decompositions() {
    TableReader reader(internal::kDecompositions);
    for (uint32_t code_point = 0, last = 0; !reader.at_end();) {
      code_point += reader.number();
      const uint32_t header = reader.number();
      const Entry entry{static_cast<uint32_t>(code_points.size()), header >> 1};
      ((header & 1) != 0 ? compatible : canonical)[code_point] = entry;
      for (uint32_t i = 0; i < entry.size; ++i) code_points.push_back(last = reader.number_from(last));
    }
  }
};

constexpr std::array<std::string_view, 30> kCategoryNames = {
    "Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps",
    "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co"};
constexpr std::array<std::string_view, 12> kScriptNames = {"",       "Han",    "Hiragana", "Katakana",
                                                           "Hangul", "Latin",  "Greek",    "Cyrillic",
                                                           "Arabic", "Hebrew", "Thai",     "Devanagari"};

}  // namespace

Category category_of(uint32_t code_point) {
  static const std::vector<uint8_t> table = expand_runs(internal::kCategoryRuns);
  return code_point < kEnd ? static_cast<Category>(table[code_point]) : Category::kCn;
}

Script script_of(uint32_t code_point) {
  static const std::vector<uint8_t> table = expand_runs(internal::kScriptRuns);
  return code_point < kEnd ? static_cast<Script>(table[code_point]) : Script::kOther;
}

uint8_t combining_class(uint32_t code_point) {
  static const std::vector<uint8_t> table = expand_runs(internal::kCombiningClassRuns);
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

void for_each_category_run(FunctionRef<void(uint32_t first, uint32_t end, Category category)> visit) {
  for_each_run(internal::kCategoryRuns,
               [&](uint32_t first, uint32_t end, uint8_t value) { visit(first, end, static_cast<Category>(value)); });
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
      const auto first = decompositions.code_points.begin() + found->second.first;
      out.insert(out.end(), first, first + found->second.size);
      return;
    }
  }
  out.push_back(code_point);
}

uint32_t composition(uint32_t first, uint32_t second) {
  static const std::unordered_map<uint64_t, uint32_t> pairs = [] {
    std::unordered_map<uint64_t, uint32_t> made;
    TableReader reader(internal::kCompositions);
    for (uint32_t last = 0; !reader.at_end();) {
      const uint64_t before = reader.number_from(last);
      const uint32_t after = reader.number_from(static_cast<uint32_t>(before));
      made[before << 32 | after] = last = reader.number_from(after);
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
    TableReader reader(internal::kLowerCases);
    for (uint32_t from = 0, distance = 0; !reader.at_end();) {
      from += reader.number();
      distance = reader.number_from(distance);
      made[from] = from + distance;
    }
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
