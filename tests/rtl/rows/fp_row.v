// FP: each spike selects a row of weights, which the lanes accumulate for an output channel each.
module fp_row #(parameter BITS = 32, EMPTY = 1, LANES = 4, WEIGHT = 16, SUM = 32, COUNT = 16) (
  input clk, input start, input [COUNT-1:0] words, input go,
  output [COUNT-1:0] spike_address, input [BITS-1:0] spikes,
  output [COUNT-1:0] next, output finish,
  output [COUNT+$clog2(BITS)-1:0] weight_address, input [LANES*WEIGHT-1:0] weights,
  output busy, output reg [31:0] operations, output reg [LANES*SUM-1:0] sums);

  wire take, valid;
  wire [$clog2(BITS)-1:0] index;
  wire [COUNT-1:0] word = next - 1'b1;
  reg add;
  integer l;

  walker #(.BITS(BITS), .EMPTY(EMPTY), .COUNT(COUNT)) walk (
    .clk(clk), .start(start), .words(words), .go(go), .address(spike_address), .data(spikes),
    .next(next), .take(take), .finish(finish), .valid(valid), .busy(busy), .index(index));

  assign weight_address = {word, index};

  always @(posedge clk)
    if (start) begin
      add <= 0; operations <= 0; sums <= 0;
    end else begin
      add <= valid;
      if (add) begin
        operations <= operations + LANES;
        for (l = 0; l < LANES; l = l + 1)
          sums[l*SUM +: SUM] <= $signed(sums[l*SUM +: SUM]) + $signed(weights[l*WEIGHT +: WEIGHT]);
      end
    end
endmodule
