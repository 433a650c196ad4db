using CsCheck;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

public sealed class VerdictTests
{
    private static readonly TimeSpan[] Published =
    [
        TimeSpan.Zero, TimeSpan.FromSeconds(5), TimeSpan.FromMinutes(5), TimeSpan.FromMinutes(30), TimeSpan.FromHours(2),
        TimeSpan.FromHours(5), TimeSpan.FromHours(10), TimeSpan.FromHours(14), TimeSpan.FromHours(20), TimeSpan.FromHours(24),
    ];

    [Theory]
    [InlineData(200)]
    [InlineData(201)]
    [InlineData(204)]
    [InlineData(299)]
    public void A_2xx_is_success(int status)
    {
        WebhookOutcome outcome = Verdict.Of(Support.Claim(), Status(status), Support.Options(), 0.5);

        outcome.Should().BeEquivalentTo(new { State = WebhookDeliveryState.Delivered, Health = new { Failures = 0 }, Attempt = new { Number = 7, Status = status } });
    }

    [Theory]
    [InlineData(199)]
    [InlineData(300)]
    [InlineData(301)]
    [InlineData(304)]
    [InlineData(400)]
    [InlineData(404)]
    [InlineData(429)]
    [InlineData(500)]
    [InlineData(503)]
    public void All_else_fails_and_is_tried_again(int status)
    {
        WebhookOutcome outcome = Verdict.Of(Support.Claim(), Status(status), Support.Options(), 0.5);

        outcome.Should().BeEquivalentTo(new { State = WebhookDeliveryState.Pending, Health = new { Failures = 1, DisabledReason = (string?)null } });
    }

    [Fact]
    public void The_delays_are_those_that_are_published_shortened_by_a_fifth_at_most()
    {
        for (int attempts = 0; attempts < Published.Length - 1; attempts++)
        {
            WebhookOutcome shortest = Verdict.Of(Support.Claim(attempts: attempts), Status(500), Support.Options(), 0);
            WebhookOutcome longest = Verdict.Of(Support.Claim(attempts: attempts), Status(500), Support.Options(), 1);

            shortest.Delay.Should().BeCloseTo(Published[attempts + 1] * 0.8, TimeSpan.FromMilliseconds(1));
            longest.Delay.Should().BeCloseTo(Published[attempts + 1], TimeSpan.FromMilliseconds(1));
        }
    }

    [Fact]
    public void The_last_attempt_makes_a_dead_letter()
    {
        WebhookOutcome ninth = Verdict.Of(Support.Claim(attempts: 8), Status(500), Support.Options(), 1);
        WebhookOutcome tenth = Verdict.Of(Support.Claim(attempts: 9), Status(500), Support.Options(), 1);

        ninth.State.Should().Be(WebhookDeliveryState.Pending);
        tenth.State.Should().Be(WebhookDeliveryState.Dead);
        tenth.DeadReason.Should().Be("attempt 10 of 10 failed");
    }

    [Fact]
    public void A_410_disables_the_endpoint_and_tells_the_audience()
    {
        WebhookOutcome outcome = Verdict.Of(Support.Claim(), Status(410), Support.Options(), 1);

        outcome.State.Should().Be(WebhookDeliveryState.Dead);
        outcome.Health.DisabledReason.Should().Contain("410");
        outcome.Health.DisabledEvent.Should().BeEquivalentTo(new { Type = "webhook.endpoint.disabled", Audience = "acme" });
        System.Text.Json.JsonDocument.Parse(outcome.Health.DisabledEvent!.Payload).RootElement.GetProperty("data").GetProperty("endpointId").GetString().Should().Be("ep_1");
    }

    [Theory]
    [InlineData(429)]
    [InlineData(503)]
    public void Retry_After_is_waited_for_by_the_delivery_and_by_the_endpoint(int status)
    {
        WebhookOutcome outcome = Verdict.Of(Support.Claim(), Status(status, TimeSpan.FromHours(1)), Support.Options(), 1);

        outcome.Delay.Should().Be(TimeSpan.FromHours(1));
        outcome.Health.Pause.Should().Be(TimeSpan.FromHours(1));
    }

    [Fact]
    public void A_Retry_After_that_is_shorter_than_the_schedule_or_of_another_status_changes_nothing()
    {
        WebhookOutcome shorter = Verdict.Of(Support.Claim(attempts: 1), Status(429, TimeSpan.FromSeconds(1)), Support.Options(), 1);
        WebhookOutcome other = Verdict.Of(Support.Claim(), Status(500, TimeSpan.FromHours(1)), Support.Options(), 1);

        shorter.Delay.Should().Be(TimeSpan.FromMinutes(5));
        other.Delay.Should().Be(TimeSpan.FromSeconds(5));
        other.Health.Pause.Should().Be(TimeSpan.FromSeconds(1));
    }

    [Fact]
    public void No_attempt_is_moved_past_the_window_whatever_the_answer_says()
    {
        Gen.Int[0, 12].Select(Gen.Double[0, 100], Gen.Double[0, 1e9], Gen.Int[0, 7].Select(index => new[] { 200, 301, 404, 429, 500, 502, 503, 504 }[index])).Select(Gen.Double[0, 1], (a, b) => (a.Item1, a.Item2, a.Item3, a.Item4, b)).Sample(given =>
        {
            (int attempts, double hours, double retryAfter, int status, double random) = given;
            TimeSpan age = TimeSpan.FromHours(hours);

            WebhookOutcome outcome = Verdict.Of(Support.Claim(attempts: attempts, age: age), Status(status, TimeSpan.FromSeconds(retryAfter)), Support.Options(), random);

            return outcome.State != WebhookDeliveryState.Pending
                || (age + outcome.Delay < TimeSpan.FromHours(80) && outcome.Delay >= Published[attempts + 1] * 0.8 - TimeSpan.FromMilliseconds(1));
        }, iter: 20_000);
    }

    [Fact]
    public void A_Retry_After_beyond_the_window_leaves_one_attempt_at_its_end_for_which_the_endpoint_is_not_paused()
    {
        WebhookOutcome outcome = Verdict.Of(Support.Claim(age: TimeSpan.FromHours(70)), Status(503, TimeSpan.FromDays(30)), Support.Options(), 1);

        outcome.State.Should().Be(WebhookDeliveryState.Pending);
        outcome.Delay.Should().BeCloseTo(TimeSpan.FromHours(10), TimeSpan.FromMinutes(2)).And.BeLessThan(TimeSpan.FromHours(10));
        outcome.Health.Pause.Should().Be(outcome.Delay);
    }

    [Fact]
    public void The_pause_doubles_with_each_failure_up_to_its_longest()
    {
        TimeSpan[] pauses = [.. Enumerable.Range(0, 12).Select(failures => Verdict.Of(Support.Claim(failures: failures), Status(500), Support.Options(), 1).Health.Pause)];

        pauses.Take(4).Should().Equal(TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(4), TimeSpan.FromSeconds(8));
        pauses[^1].Should().Be(TimeSpan.FromMinutes(5));
        pauses.Should().BeInAscendingOrder();
    }

    [Theory]
    [InlineData(502)]
    [InlineData(504)]
    public void A_gateway_that_gives_up_slows_down_twice_as_fast(int status)
    {
        WebhookOutcome outcome = Verdict.Of(Support.Claim(failures: 1), Status(status), Support.Options(), 1);

        outcome.Health.Should().BeEquivalentTo(new { Failures = 2, Pause = TimeSpan.FromSeconds(4) });
    }

    [Fact]
    public void An_endpoint_that_only_failed_for_days_is_disabled()
    {
        WebhookOutcome before = Verdict.Of(Support.Claim(failures: 9, failingFor: TimeSpan.FromDays(4.9)), Status(500), Support.Options(), 1);
        WebhookOutcome after = Verdict.Of(Support.Claim(failures: 9, failingFor: TimeSpan.FromDays(5)), Status(500), Support.Options(), 1);

        before.Health.DisabledReason.Should().BeNull();
        after.Health.DisabledReason.Should().Be("nothing but failures for 5 days");
        after.Health.DisabledEvent.Should().NotBeNull();
    }

    [Fact]
    public void What_is_not_the_endpoints_fault_does_not_count_against_it()
    {
        WebhookOutcome outcome = Verdict.Of(Support.Claim(), new Answer(null, default, "the secret could not be read", [], null, IsEndpointsFault: false), Support.Options(), 1);

        outcome.State.Should().Be(WebhookDeliveryState.Pending);
        outcome.Health.Failures.Should().BeNull();
    }

    private static Answer Status(int status, TimeSpan? retryAfter = null) => new(status, TimeSpan.FromMilliseconds(3), null, [], retryAfter);
}
