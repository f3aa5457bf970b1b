#include "text/unicode_classes.h"

#include <algorithm>
#include <vector>

namespace colossus {

namespace internal {
extern const uint32_t kUnicodeClassRuns[];
extern const int kNumUnicodeClassRuns;
}  // namespace internal

const ClassMask* unicode_classes() {
  // A flat table costs 1.1 MB and 0.2 ms once; the splitters' inner loops then need no second lookup.
  static const std::vector<ClassMask> masks = [] {
    std::vector<ClassMask> table(0x110000);
    for (int i = 0; i < internal::kNumUnicodeClassRuns; ++i) {
      const uint32_t first = internal::kUnicodeClassRuns[i] >> 8;
      const bool last_run = i + 1 == internal::kNumUnicodeClassRuns;
      const uint32_t end = last_run ? 0x110000 : internal::kUnicodeClassRuns[i + 1] >> 8;
      std::fill(table.begin() + first, table.begin() + end, static_cast<ClassMask>(internal::kUnicodeClassRuns[i]));
    }
    return table;
  }();
  return masks.data();
}

}  // namespace colossus
