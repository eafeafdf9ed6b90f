// FP of ROWS pixels that share weights. The weights of a word are a block; the blocks of QUEUE + 1 words are at hand.
// A block is replaced, in one cycle, once all rows are done with its word; a row waits until its word's block is there.
module fp_group #(parameter ROWS = 4, QUEUE = 0, BITS = 32, EMPTY = 1, LANES = 4, WEIGHT = 16, SUM = 32, COUNT = 16) (
  input clk, input start, input [COUNT-1:0] words,
  output [ROWS*COUNT-1:0] spike_address, input [ROWS*BITS-1:0] spikes,
  output reg [COUNT-1:0] block, input [BITS*LANES*WEIGHT-1:0] block_weights,
  output busy, output [ROWS*32-1:0] operations, output [ROWS*LANES*SUM-1:0] sums);

  localparam INDEX = $clog2(BITS);
  reg [LANES*WEIGHT-1:0] weights [0:(QUEUE+1)*BITS-1];
  reg [COUNT-1:0] done [0:ROWS-1];  // words that each row is done with
  reg [COUNT-1:0] oldest;           // words that all rows are done with, counting those that end in this cycle
  wire [ROWS-1:0] finish, row_busy;
  wire load = (block != words) && (block <= oldest + QUEUE);
  integer r, b;
  genvar g;

  assign busy = |row_busy;

  always @* begin
    oldest = words;
    for (r = 0; r < ROWS; r = r + 1) if (done[r] + finish[r] < oldest) oldest = done[r] + finish[r];
  end

  always @(posedge clk)
    if (start) begin
      block <= 0;
      for (r = 0; r < ROWS; r = r + 1) done[r] <= 0;
    end else begin
      for (r = 0; r < ROWS; r = r + 1) done[r] <= done[r] + finish[r];
      block <= block + load;
      if (load)
        for (b = 0; b < BITS; b = b + 1)
          weights[(block % (QUEUE + 1)) * BITS + b] <= block_weights[b*LANES*WEIGHT +: LANES*WEIGHT];
    end

  generate
    for (g = 0; g < ROWS; g = g + 1) begin : row
      wire [COUNT-1:0] next;
      wire [COUNT+INDEX-1:0] address;
      reg [LANES*WEIGHT-1:0] operands;

      always @(posedge clk)
        operands <= weights[(address[INDEX +: COUNT] % (QUEUE + 1)) * BITS + address[INDEX-1:0]];

      fp_row #(.BITS(BITS), .EMPTY(EMPTY), .LANES(LANES), .WEIGHT(WEIGHT), .SUM(SUM), .COUNT(COUNT)) fp (
        .clk(clk), .start(start), .words(words), .go(next < block + load),
        .spike_address(spike_address[g*COUNT +: COUNT]), .spikes(spikes[g*BITS +: BITS]),
        .next(next), .finish(finish[g]), .weight_address(address), .weights(operands), .busy(row_busy[g]),
        .operations(operations[g*32 +: 32]), .sums(sums[g*LANES*SUM +: LANES*SUM]));
    end
  endgenerate
endmodule
