#include "cli/interrupt.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "cli/exit_code.h"

namespace colossus {
namespace {

TEST(Interrupt, TheFirstSignalSetsTheFlagAndTheSecondEndsTheProcess) {
  for (const int signal : {SIGINT, SIGTERM}) {
    EXPECT_EXIT(
        {
          InterruptScope scope("saving");
          if (scope.requested()) ::_exit(1);
          ::raise(signal);
          if (!scope.requested()) ::_exit(2);
          ::raise(signal);
          ::_exit(3);
        },
        testing::ExitedWithCode(130), "colossus: saving");
  }
}

TEST(Interrupt, OutsideAScopeSignalsKill) {
  EXPECT_EXIT(
      {
        { InterruptScope scope; }
        ::raise(SIGTERM);
      },
      testing::KilledBySignal(SIGTERM), "");
}

TEST(ExitCode, EachKindOfErrorHasItsOwn) {
  EXPECT_EQ(exit_code(ok_status()), 0);
  EXPECT_EQ(exit_code(invalid("")), 2);
  EXPECT_EQ(exit_code(not_found("")), 3);
  EXPECT_EQ(exit_code(exhausted("")), 4);
  EXPECT_EQ(exit_code(corrupt("")), 5);
  EXPECT_EQ(exit_code(unavailable("")), 6);
  EXPECT_EQ(exit_code(interrupted("")), 130);
}

}  // namespace
}  // namespace colossus
