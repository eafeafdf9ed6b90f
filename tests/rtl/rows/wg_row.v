// WG: sums the gradient where a spike meets a non-zero gradient. The gradient is a bitmap and a list of its non-zeros;
// the place of a value in the list is the rank of its bit in the bitmap.
module wg_row #(parameter BITS = 32, EMPTY = 1, VALUE = 16, SUM = 32, COUNT = 16) (
  input clk, input start, input [COUNT-1:0] words,
  output [COUNT-1:0] address, input [BITS-1:0] spikes, input [BITS-1:0] nonzeros,
  output [COUNT-1:0] value_address, input signed [VALUE-1:0] value,
  output busy, output reg [31:0] operations, output reg signed [SUM-1:0] sum);

  wire take, finish, valid;
  wire [COUNT-1:0] next;
  wire [$clog2(BITS)-1:0] index;
  reg [BITS-1:0] map;           // of the word in work
  reg [COUNT-1:0] rank, ranked; // non-zeros in all words before it, and in all words taken
  reg add;

  function [COUNT-1:0] ones(input [BITS-1:0] bits);
    integer i;
    begin
      ones = 0;
      for (i = 0; i < BITS; i = i + 1) ones = ones + bits[i];
    end
  endfunction

  walker #(.BITS(BITS), .EMPTY(EMPTY), .COUNT(COUNT)) walk (
    .clk(clk), .start(start), .words(words), .go(1'b1), .address(address), .data(spikes & nonzeros),
    .next(next), .take(take), .finish(finish), .valid(valid), .busy(busy), .index(index));

  assign value_address = rank + ones(map & (({{BITS-1{1'b0}}, 1'b1} << index) - 1'b1));

  always @(posedge clk)
    if (start) begin
      add <= 0; operations <= 0; sum <= 0; ranked <= 0;
    end else begin
      if (take) begin
        map <= nonzeros; rank <= ranked; ranked <= ranked + ones(nonzeros);
      end
      add <= valid;
      if (add) begin
        operations <= operations + 1;
        sum <= sum + value;
      end
    end
endmodule
