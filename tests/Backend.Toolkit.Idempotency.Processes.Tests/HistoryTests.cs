namespace Backend.Toolkit.Idempotency.Processes.Tests;

public sealed class HistoryTests
{
    private static readonly Exchange First = new("k", "a", 10, 20, 200, "one");

    [Fact]
    public void Answers_that_are_the_same_and_mismatches_that_differ_are_fine()
    {
        List<string> violations = History.Violations([First, First with { Sent = 30, Ended = 40, IsReplayed = true }, new("k", "b", 30, 40, 422), new("k", "a", 5, 15, 409), new("k", "a", 1, 2, 0)]);

        violations.Should().BeEmpty();
    }

    [Fact]
    public void Each_rule_that_is_broken_is_told()
    {
        Exchange[][] broken =
        [
            [new("k", "a", 1, 2, 0)],
            [First, First with { Body = "b" }],
            [First, First with { Answer = "two" }],
            [First, First with { Sent = 30, Ended = 40 }],
            [First, new("k", "a", 5, 15, 422)],
            [First, new("k", "b", 1, 2, 409), new("k", "a", 30, 40, 422)],
            [First, new("k", "b", 30, 40, 409)],
            [First, new("k", "a", 30, 40, 500)],
        ];

        foreach (Exchange[] history in broken)
        {
            History.Violations(history).Should().ContainSingle();
        }
    }
}
