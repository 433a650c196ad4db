using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

public sealed class EndpointLoadTests
{
    private static readonly WebhookDeliveryOptions Options = new() { Name = "tests", MaxConcurrency = 100, MaxConcurrencyPerEndpoint = 8 };
    private static readonly Answer Good = new(200, TimeSpan.FromMilliseconds(5), null, [], null);
    private static readonly Answer Slow = new(200, TimeSpan.FromSeconds(14), null, [], null);
    private static readonly Answer Bad = new(500, TimeSpan.FromMilliseconds(5), null, [], null);

    private readonly EndpointLoad _load = new(new FakeTimeProvider());

    [Fact]
    public void An_endpoint_begins_with_one_and_each_good_answer_doubles_it_up_to_the_most()
    {
        int[] quotas = [.. Enumerable.Range(0, 6).Select(_ => QuotaThen(Good))];

        quotas.Should().Equal(1, 2, 4, 8, 8, 8);
    }

    [Fact]
    public void A_failure_makes_it_one_again_and_a_slow_answer_halves_it()
    {
        int[] quotas = [QuotaThen(Good), QuotaThen(Good), QuotaThen(Good), QuotaThen(Slow), QuotaThen(Good), QuotaThen(Bad), QuotaThen(Bad)];

        quotas.Should().Equal(1, 2, 4, 8, 4, 8, 1);
    }

    [Fact]
    public void What_is_under_way_counts()
    {
        QuotaThen(Good);
        QuotaThen(Good);
        _load.Begin("a", 0);
        _load.Begin("a", 0);
        _load.Begin("a", 0);

        int left = _load.Plan(Options)("a", 0);

        left.Should().Be(1);
        _load.UnderWay.Should().Be(3);
    }

    [Fact]
    public void A_failing_endpoint_gets_one_however_well_it_did()
    {
        QuotaThen(Good);
        QuotaThen(Good);

        int quota = _load.Plan(Options)("a", 3);

        quota.Should().Be(1);
    }

    [Fact]
    public void Those_that_have_not_answered_well_never_take_more_than_half_of_the_slots()
    {
        QuotaThen(Good);
        QuotaThen(Good);
        QuotaThen(Good);

        Func<string, int, int> plan = _load.Plan(Options);
        int unknown = Enumerable.Range(0, 200).Sum(i => plan($"unknown_{i}", i % 2));
        int known = plan("a", 0);

        unknown.Should().Be(50);
        known.Should().Be(8);
    }

    [Fact]
    public void All_slots_together_are_never_more_than_there_are()
    {
        for (int i = 0; i < 40; i++)
        {
            for (int good = 0; good < 3; good++)
            {
                _load.End($"proven_{i}", _load.Begin($"proven_{i}", 0), Good, Options);
            }
        }

        Func<string, int, int> plan = _load.Plan(Options);
        int all = Enumerable.Range(0, 40).Sum(i => plan($"proven_{i}", 0));

        all.Should().Be(100);
    }

    private int QuotaThen(Answer answer)
    {
        int quota = _load.Plan(Options)("a", 0);
        _load.End("a", _load.Begin("a", 0), answer, Options);
        return quota;
    }
}
