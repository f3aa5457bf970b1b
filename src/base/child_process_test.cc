#include "base/child_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

namespace colossus {
namespace {

ChildProcess shell(const std::string& script) { return *ChildProcess::start({.arguments = {"sh", "-c", script}}); }

TEST(ChildProcess, SaysHowItEnded) {
  EXPECT_TRUE(shell("exit 0").wait().ok());
  EXPECT_EQ(shell("exit 3").wait().to_string(), "exit code 3");
  EXPECT_EQ(shell("kill -9 $$").wait().to_string(), "killed by signal 9 (Killed)");
  ChildProcess sleeping = shell("sleep 100");
  EXPECT_FALSE(sleeping.poll().has_value());
  sleeping.send(SIGTERM);
  EXPECT_EQ(sleeping.wait().signal, SIGTERM);
  EXPECT_EQ(sleeping.poll()->signal, SIGTERM);  // also when asked again
}

TEST(ChildProcess, HasTheEnvironmentItIsGiven) {
  ::setenv("COLOSSUS_CHILD_TEST", "old", 1);
  const auto run = [](const std::string& wanted) {
    return ChildProcess::start({.arguments = {"sh", "-c", "test \"$COLOSSUS_CHILD_TEST$HOME\" = '" + wanted + "'"},
                                .environment = {{"COLOSSUS_CHILD_TEST", "new"}, {"HOME", "x"}}})
        ->wait()
        .exit_code;
  };
  EXPECT_EQ(run("newx"), 0);
  EXPECT_EQ(run("oldx"), 1);
}

TEST(ChildProcess, AProgramThatIsNotThereIsAnError) {
  const auto child = ChildProcess::start({.arguments = {"/no/such/program"}});
  ASSERT_FALSE(child.ok());
  EXPECT_EQ(child.status().code(), ErrorCode::kNotFound);
  EXPECT_THAT(child.status().message(), testing::HasSubstr("/no/such/program: No such file"));
}

// A child with signal_when_parent_ends does not outlive whoever started it.
TEST(ChildProcess, EndsWithItsParent) {
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  const pid_t middle = ::fork();
  if (middle == 0) {
    auto child = ChildProcess::start({.arguments = {"sleep", "100"}, .signal_when_parent_ends = SIGKILL});
    const pid_t pid = child->pid();
    [[maybe_unused]] const ssize_t sent = ::write(pipe_ends[1], &pid, sizeof(pid));
    ::kill(::getpid(), SIGKILL);
  }
  pid_t child = 0;
  ASSERT_EQ(::read(pipe_ends[0], &child, sizeof(child)), static_cast<ssize_t>(sizeof(child)));
  // It is nobody's child now, or somebody else's: gone, or a zombie that its new parent has yet to see.
  const auto gone = [&] {
    if (::kill(child, 0) != 0) return true;
    FILE* stat = std::fopen(("/proc/" + std::to_string(child) + "/stat").c_str(), "r");
    if (!stat) return true;
    char state = 0;
    const int read = std::fscanf(stat, "%*d (%*[^)]) %c", &state);
    std::fclose(stat);
    return read == 1 && state == 'Z';
  };
  for (int i = 0; i < 500 && !gone(); ++i) ::usleep(10'000);
  EXPECT_TRUE(gone());
}

}  // namespace
}  // namespace colossus
