// What the build-out of a cluster depends on (plan/build_out.h).
#pragma once

#include <cstdint>

#include "io/fields.h"
#include "plan/assumption.h"

namespace colossus {

// A crew does one thing at a time, around the clock in shifts.
struct BuildOutSpec {
  double site_days = 0;          // from the decision until the first rack may be placed: shell, power, cooling
  double racks_per_day = 10;     // delivered
  double delivery_spread = 0.3;  // standard deviation of a day's racks over their mean
  int64_t install_crews = 20;
  double install_hours_per_rack = 12;  // place, connect to power and water, switch on
  int64_t cable_crews = 20;
  double cable_hours_per_rack = 12;  // fibre to the leaf switches
  double array_hours = 12;           // that an array of racks takes after its last: switches, links, acceptance
  double burn_in_hours = 24;         // of load on every node
  double node_pass_rate = 0.95;      // of nodes, the first time
  double retest_pass_rate = 0.9;     // and after each repair
  int64_t repair_crews = 40;
  double repair_hours = 6;  // of a crew, for a node
  double parts_days = 1;    // until the part for it is there, in the mean
  // Early failures after burn-in: a Weibull law with shape < 1, that is a rate which falls with age.
  double early_failures_per_node = 0.02;  // of a node in its first early_days
  double early_days = 60;
  double weibull_shape = 0.5;
  double first_step_hours = 48;  // from the last node until all train: fabric tests, software, first checkpoint
  Evidence evidence;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;
};

}  // namespace colossus
