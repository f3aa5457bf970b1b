// A directory that the binary is run in, as people run it.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/testing.h"
#include "process.h"

namespace colossus {

class Place {
 public:
  std::string path(const std::string& name) const { return directory_ / name; }
  const std::string& directory() const { return directory_.path(); }
  std::string read(const std::string& name) const {
    auto text = read_file(local_files(), path(name));
    CHECK(text.ok(), name.c_str());
    return std::move(*text);
  }
  void write(const std::string& name, const std::string& text) const {
    CHECK(write_file_atomically(local_files(), path(name), text).ok(), name.c_str());
  }

  std::vector<std::string> command(std::vector<std::string> words) const {
    words.insert(words.begin(), COLOSSUS_BINARY);
    return words;
  }
  Outcome run(std::vector<std::string> words, const std::string& input = "") const {
    return Process(command(std::move(words)), directory_.path(), input).wait();
  }
  Outcome shell(const std::string& script) const {
    return Process({"/bin/sh", "-c", script}, directory_.path()).wait();
  }
  Outcome must_succeed(std::vector<std::string> words, const std::string& input = "") const {
    Outcome outcome = run(std::move(words), input);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome;
  }
  // What it says of the failure; nothing may stand where results do.
  std::string must_fail(std::vector<std::string> words) const {
    const Outcome outcome = run(std::move(words));
    EXPECT_NE(outcome.exit_code, 0);
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  }

 private:
  TemporaryDirectory directory_;
};

}  // namespace colossus
