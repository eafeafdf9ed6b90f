// Runs the cases of a BP row one after the other without a reset, and prints for each: cycles, operations, sums.
module bp_bench;
  parameter CASES = 1, NEEDED = 1, LIST = 1, WEIGHTS = 1024, EMPTY = 1, LANES = 4, GROUPS = 8;
  reg [7:0] needed [0:NEEDED-1];
  reg [31:0] list [0:LIST-1];  // value in the low half, index in the high half
  reg [LANES*16-1:0] weights [0:WEIGHTS-1];
  reg [191:0] cases [0:CASES-1];  // groups, length of its list, length of its gradient, places of gates, list, weights

  reg clk = 0, start = 0;
  reg [31:0] groups, length, size, needed_base, list_base, weight_base, cycles;
  wire [15:0] group_address, list_address, weight_group, weight_index;
  reg [7:0] gates;
  reg [31:0] item;
  reg [LANES*16-1:0] operands;
  wire [31:0] operations;
  wire busy;
  integer c, l;

  bp_row #(.EMPTY(EMPTY), .LANES(LANES), .GROUPS(GROUPS)) row (
    .clk(clk), .start(start), .groups(groups[15:0]), .length(length[15:0]), .group_address(group_address),
    .needed(gates[LANES-1:0]), .list_address(list_address), .index(item[31:16]), .value(item[15:0]),
    .weight_group(weight_group), .weight_index(weight_index), .weights(operands), .busy(busy),
    .operations(operations));

  always #1 clk = ~clk;

  always @(posedge clk) begin
    gates <= needed[needed_base + group_address];
    item <= list[list_base + list_address];
    operands <= weights[(weight_base + weight_group * size + weight_index) % WEIGHTS];
    cycles <= start ? 0 : cycles + busy;
  end

  initial begin
    $readmemh("needed.hex", needed);
    $readmemh("list.hex", list);
    $readmemh("weights.hex", weights);
    $readmemh("cases.hex", cases);
    for (c = 0; c < CASES; c = c + 1) begin
      @(negedge clk) {weight_base, list_base, needed_base, size, length, groups} = cases[c];
      start = 1;
      @(negedge clk) start = 0;
      while (busy) @(negedge clk);
      $write("%0d %0d", cycles, operations);
      for (l = 0; l < groups * LANES; l = l + 1) $write(" %0d", row.sums[l]);
      $write("\n");
    end
    $finish;
  end
endmodule
