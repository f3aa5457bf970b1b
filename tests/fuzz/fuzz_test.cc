// The kept corpus, and small changes to it, through every fuzz target: what libFuzzer found once stays found without
// clang. How many inputs there are is fixed, and so are their bytes: a run that fails fails again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <random>

#include "fuzz/fuzz.h"
#include "io/file_system.h"

namespace colossus {
namespace {

constexpr int kMutants = 600;  // of a target
constexpr size_t kMaxMutantBytes = size_t{16} << 10;

struct CorpusFile {
  std::string name;
  std::string bytes;
};

std::vector<CorpusFile> corpus_of(const std::string& target) {
  const std::string directory = std::string(COLOSSUS_SOURCE_DIR) + "/tests/fuzz/corpus/" + target;
  const auto entries = local_files().list(directory);
  CHECK(entries.ok(), "every target has a folder with its corpus");
  std::vector<CorpusFile> corpus;
  for (const FileEntry& entry : *entries)
    corpus.push_back({entry.name, *read_file(local_files(), directory + "/" + entry.name)});
  return corpus;
}

// What is being read, so that a crash can keep it: handlers of signals reach nothing but globals.
std::string running;
std::string running_place;

void keep_input(int signal) {
  const std::string place = running_place;
  if (std::FILE* const file = std::fopen(place.c_str(), "wb"); file != nullptr) {
    std::fwrite(running.data(), 1, running.size(), file);
    std::fclose(file);
  }
  std::fprintf(stderr, "the input that did it: %s\n", place.c_str());
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void run(const FuzzTarget& target, const std::string& input) {
  running = input;
  static_cast<void>(target.run(reinterpret_cast<const uint8_t*>(input.data()), input.size()));
}

// A few changes of the kinds that break readers: bits, numbers at the ends of their range, pieces lost, repeated, or
// from another file.
class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  std::string mutant(const std::vector<CorpusFile>& corpus) {
    std::string text = corpus[below(corpus.size())].bytes;
    for (size_t changes = 1 + below(4); changes > 0; --changes) change(text, corpus[below(corpus.size())].bytes);
    text.resize(std::min(text.size(), kMaxMutantBytes));
    return text;
  }

 private:
  size_t below(size_t limit) { return limit == 0 ? 0 : random_() % limit; }

  void change(std::string& text, const std::string& other) {
    static constexpr std::string_view kPieces[] = {"0",
                                                   "-1",
                                                   "255",
                                                   "65536",
                                                   "2147483648",
                                                   "4294967295",
                                                   "9223372036854775807",
                                                   "18446744073709551616",
                                                   "1e999",
                                                   "nan",
                                                   "[",
                                                   "]",
                                                   "{",
                                                   "}",
                                                   "\"",
                                                   "\\",
                                                   "\n",
                                                   ",",
                                                   ":",
                                                   " ",
                                                   "null",
                                                   "\xFF\xFF\xFF\xFF",
                                                   "\x7F\xFF\xFF\xFF",
                                                   "\xC3",
                                                   "\xF0\x9F",
                                                   "..",
                                                   "/"};
    const size_t at = below(text.size() + 1), size = below(std::min<size_t>(text.size() - at, 40) + 1);
    switch (below(7)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 1:
        if (at < text.size()) text[at] = static_cast<char>(random_());
        break;
      case 2: text.erase(at, size); break;
      case 3: text.insert(at, text.substr(at, size)); break;
      case 4: text.insert(at, kPieces[below(std::size(kPieces))]); break;
      case 5: text.replace(at, size, kPieces[below(std::size(kPieces))]); break;
      default: {
        const size_t from = below(other.size() + 1);
        text.insert(at, other.substr(from, below(200)));
      }
    }
  }

  std::mt19937 random_;
};

class Fuzz : public ::testing::TestWithParam<FuzzTarget> {
 protected:
  void SetUp() override {
    const char* const directory = std::getenv("TMPDIR");
    running_place = std::string(directory == nullptr ? "/tmp" : directory) + "/fuzz-" + GetParam().name + "-" +
                    std::to_string(::getpid());
    for (const int signal : {SIGABRT, SIGSEGV, SIGFPE, SIGILL, SIGBUS}) std::signal(signal, keep_input);
  }
  void TearDown() override {
    for (const int signal : {SIGABRT, SIGSEGV, SIGFPE, SIGILL, SIGBUS}) std::signal(signal, SIG_DFL);
  }
};

TEST_P(Fuzz, KeptInputsAreReadOrRefused) {
  int num_valid = 0, num_others = 0;
  for (const CorpusFile& file : corpus_of(GetParam().name)) {
    SCOPED_TRACE(file.name);
    EXPECT_LE(file.bytes.size(), 8192u) << "a kept input is small";
    const int64_t before = num_accepted();
    run(GetParam(), file.bytes);
    if (file.name.starts_with("valid-")) {
      EXPECT_GT(num_accepted(), before) << "it is called valid";
      ++num_valid;
    } else if (file.name.starts_with("bad-")) {
      EXPECT_EQ(num_accepted(), before) << "it is called bad";
      ++num_others;
    } else {
      EXPECT_TRUE(file.name.starts_with("odd-") || file.name.starts_with("found-")) << file.name;
    }
  }
  EXPECT_GT(num_valid, 0);
  EXPECT_GT(num_others, 0);
}

TEST_P(Fuzz, MutantsOfKeptInputsAreReadOrRefused) {
  const std::vector<CorpusFile> corpus = corpus_of(GetParam().name);
  Mutator mutator(20240917);
  for (int i = 0; i < kMutants; ++i) run(GetParam(), mutator.mutant(corpus));
}

INSTANTIATE_TEST_SUITE_P(Readers, Fuzz, ::testing::ValuesIn(fuzz_targets().begin(), fuzz_targets().end()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(HeapLimit, SeesWhatCAndCppAllocate) {
  const size_t before = heap_bytes();
  {
    const HeapLimit limit(0);
    const std::vector<char> taken(size_t{60} << 20);
    EXPECT_GE(heap_bytes(), before + taken.size());
  }
  const size_t after = heap_bytes();
  EXPECT_LT(after, before + (size_t{1} << 20));
  void* volatile memory = std::malloc(size_t{3} << 20);  // volatile: else the two calls cancel out
  EXPECT_GE(heap_bytes(), after + (size_t{3} << 20));
  std::free(memory);
}

TEST(HeapLimitDeathTest, EndsTheRunOfWhoTakesTooMuch) {
  EXPECT_DEATH(
      {
        const HeapLimit limit(1000);
        const std::vector<char> taken(size_t{65} << 20);
      },
      "too much memory");
}

}  // namespace
}  // namespace colossus
