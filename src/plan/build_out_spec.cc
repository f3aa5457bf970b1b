#include "plan/build_out_spec.h"

namespace colossus {

void BuildOutSpec::visit_fields(FieldVisitor& v) {
  v.field("site_days", site_days, "from the decision until racks may be placed",
          {.unit = "days", .min = 0, .max = 1e4});
  v.field("racks_per_day", racks_per_day, "delivered", {.above = 0});
  v.field("delivery_spread", delivery_spread, "deviation of a day's racks over their mean", {.min = 0, .max = 2});
  v.field("install_crews", install_crews, "that place racks", {.min = 1, .max = 1e5});
  v.field("install_hours_per_rack", install_hours_per_rack, "of a crew", {.unit = "hours", .min = 0, .max = 1e4});
  v.field("cable_crews", cable_crews, "that lay cables", {.min = 1, .max = 1e5});
  v.field("cable_hours_per_rack", cable_hours_per_rack, "of a crew", {.unit = "hours", .min = 0, .max = 1e4});
  v.field("array_hours", array_hours, "of an array after its last rack", {.unit = "hours", .min = 0, .max = 1e4});
  v.field("burn_in_hours", burn_in_hours, "of load on every node", {.unit = "hours", .min = 0, .max = 1e4});
  v.field("node_pass_rate", node_pass_rate, "of nodes, the first time", {.max = 1, .above = 0});
  v.field("retest_pass_rate", retest_pass_rate, "of nodes, after a repair", {.max = 1, .above = 0});
  v.field("repair_crews", repair_crews, "that repair nodes", {.min = 1, .max = 1e5});
  v.field("repair_hours", repair_hours, "of a crew, for a node", {.unit = "hours", .min = 0, .max = 1e4});
  v.field("parts_days", parts_days, "until a part is there, in the mean", {.unit = "days", .min = 0, .max = 1e3});
  v.field("early_failures_per_node", early_failures_per_node, "in the first early_days", {.min = 0, .max = 10});
  v.field("early_days", early_days, "over which failures are counted as early",
          {.unit = "days", .max = 1e4, .above = 0});
  v.field("weibull_shape", weibull_shape, "of their law; below 1 the rate falls with age", {.max = 1, .above = 0});
  v.field("first_step_hours", first_step_hours, "from the last node until all train",
          {.unit = "hours", .min = 0, .max = 1e4});
  evidence.visit_fields(v);
}

void BuildOutSpec::check_fields(FieldChecker& c) const { check_evidence(*this, c); }

}  // namespace colossus
