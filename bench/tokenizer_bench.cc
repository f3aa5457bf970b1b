// Encoding and decoding speed of one tokenizer: text is read once, only encode() and decode() are timed, and of several
// rounds the fastest counts.
//   tokenizer_bench --tokenizer cl100k_base.tiktoken [--texts dir] [--threads 1] [--rounds 5]
// bench/peers/tokenizer_speed.py runs it in turns with other libraries, which check `tokens` and `sum_of_ids`.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <ctime>
#include <thread>

#include "base/clock.h"
#include "text/tokenizer.h"

namespace colossus {
namespace {

struct TokenizerArguments {
  std::string tokenizer;
  std::string texts = "../shared/data/text";
  int threads = 1;
  int rounds = 5;
  bool skip_decode = false;
};

// As bench/peers/tokenizer_speed.py cuts them: at the first line end behind so many bytes.
constexpr size_t kDocumentBytes = 1 << 16;

Status read_documents(const std::string& directory, std::vector<std::string>& documents) {
  ASSIGN_OR_RETURN(const std::vector<FileEntry> entries, local_files().list(directory));
  for (const FileEntry& entry : entries) {
    const std::string path = directory + "/" + entry.name;
    if (entry.is_directory) {
      RETURN_IF_ERROR(read_documents(path, documents));
      continue;
    }
    ASSIGN_OR_RETURN(const std::string text, read_file(local_files(), path));
    for (size_t begin = 0, end; begin < text.size(); begin = end) {
      end = std::min(text.find('\n', begin + kDocumentBytes), text.size() - 1) + 1;
      documents.push_back(text.substr(begin, end - begin));
    }
  }
  return ok_status();
}

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// How long work(i) took for all i below some number, by threads that take the next one when they are free.
struct Seconds {
  double wall = 1e30;
  double processor = 1e30;  // of all threads
  void keep_best(const Seconds& other) {
    wall = std::min(wall, other.wall);
    processor = std::min(processor, other.processor);
  }
};
template <class Work>
Seconds time_of(size_t count, int num_threads, Work work) {
  std::atomic<size_t> next = 0;
  std::atomic<double> processor = 0;
  const auto run = [&] {
    const double before = thread_seconds();
    for (size_t i; (i = next.fetch_add(1)) < count;) work(i);
    processor += thread_seconds() - before;
  };
  const double start = monotonic_seconds();
  std::vector<std::thread> others;
  for (int i = 1; i < num_threads; ++i) others.emplace_back(run);
  run();
  for (std::thread& other : others) other.join();
  return {monotonic_seconds() - start, processor};
}

Status run(const TokenizerArguments& arguments) {
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, load_tokenizer(local_files(), arguments.tokenizer));
  std::vector<std::string> documents;
  RETURN_IF_ERROR(read_documents(arguments.texts, documents));
  std::vector<std::vector<int32_t>> ids(documents.size());
  std::vector<std::string> decoded(documents.size());
  std::vector<Status> failures(documents.size());
  Seconds encoding, decoding;
  for (int round = 0; round < arguments.rounds; ++round) {
    encoding.keep_best(time_of(documents.size(), arguments.threads, [&](size_t i) {
      ids[i].clear();
      failures[i] = tokenizer.encode(documents[i], ids[i]);
    }));
    if (arguments.skip_decode) continue;
    decoding.keep_best(
        time_of(documents.size(), arguments.threads, [&](size_t i) { decoded[i] = tokenizer.decode(ids[i]); }));
  }
  size_t num_bytes = 0, num_tokens = 0;
  int64_t sum_of_ids = 0;
  for (size_t i = 0; i < documents.size(); ++i) {
    RETURN_IF_ERROR(failures[i]);
    num_bytes += documents[i].size();
    num_tokens += ids[i].size();
    for (const int32_t id : ids[i]) sum_of_ids += id;
  }
  std::printf(
      "{\"tokenizer\": \"%s\", \"threads\": %d, \"documents\": %zu, \"bytes\": %zu, \"tokens\": %zu, \"sum_of_ids\": "
      "%lld, \"encode_seconds\": %.4f, \"encode_processor_seconds\": %.4f, \"decode_seconds\": %.4f, "
      "\"decode_processor_seconds\": %.4f}\n",
      arguments.tokenizer.substr(arguments.tokenizer.rfind('/') + 1).c_str(), arguments.threads, documents.size(),
      num_bytes, num_tokens, static_cast<long long>(sum_of_ids), encoding.wall, encoding.processor,
      arguments.skip_decode ? 0 : decoding.wall, arguments.skip_decode ? 0 : decoding.processor);
  return ok_status();
}

}  // namespace
}  // namespace colossus

int main(int argc, char** argv) {
  CLI::App app("Tokenizer speed");
  colossus::TokenizerArguments arguments;
  app.add_option("--tokenizer", arguments.tokenizer)->required();
  app.add_option("--texts", arguments.texts);
  app.add_option("--threads", arguments.threads);
  app.add_option("--rounds", arguments.rounds);
  app.add_flag("--skip-decode", arguments.skip_decode);
  CLI11_PARSE(app, argc, argv);
  const colossus::Status status = colossus::run(arguments);
  if (!status.ok()) std::fprintf(stderr, "tokenizer_bench: %s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
