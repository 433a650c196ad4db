using static Backend.Toolkit.RateLimiting.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Tests;

/// <summary>What others do between the first and the second limit of a composite, or while somebody settles, made to happen there by a second limit that waits for it.</summary>
public sealed class TakeBackTests
{
    private readonly HandTime _time = new();
    private readonly Meanwhile _second = new();
    private readonly KeyTable _table;

    public TakeBackTests()
    {
        Clock clock = new(_time);
        _table = new KeyTable("", 0, default, [Per(10, 10), Per(1000, 1)], (limits, id) => new WordPlan(limits, id, [new BucketRule(limits[0]), _second], clock), [new Lock()]);
    }

    [Fact]
    public void A_charge_that_drained_before_it_was_taken_back_takes_back_nothing_of_anothers()
    {
        _second.Do = () =>
        {
            _time.Now += TimeSpan.FromSeconds(5);
            TryCharge(5, out _).Should().Be(Charge.Admitted);
            return false;
        };

        TryCharge(5, out _).Should().Be(Charge.Refused);

        TryCharge(6, out _).Should().Be(Charge.Refused);
        TryCharge(5, out _).Should().Be(Charge.Admitted);
    }

    [Fact]
    public void A_charge_that_saw_one_that_was_taken_back_is_not_refunded_when_it_has_drained()
    {
        TryCharge(1, out RateLimitDecision first);
        Refund(first);
        RateLimitDecision seeing = default;
        _second.Do = () =>
        {
            TryCharge(5, out seeing).Should().Be(Charge.Admitted);
            return false;
        };
        TryCharge(5, out _).Should().Be(Charge.Refused);
        _time.Now += TimeSpan.FromSeconds(5);
        TryCharge(10, out _).Should().Be(Charge.Admitted);

        Refund(seeing);

        TryCharge(1, out _).Should().Be(Charge.Refused);
    }

    [Fact]
    public void A_settler_that_was_held_up_since_it_read_the_clock_gives_back_only_what_has_not_drained()
    {
        TryCharge(5, out RateLimitDecision decision);
        long read = _time.Now.Ticks;
        _time.Now += TimeSpan.FromSeconds(5);
        TryCharge(10, out _).Should().Be(Charge.Admitted);

        _table.TryRefund(KeyTable.Shared, read, 5, decision).Should().BeTrue();

        TryCharge(1, out _).Should().Be(Charge.Refused);
    }

    private Charge TryCharge(int permits, out RateLimitDecision decision) => _table.TryCharge(KeyTable.Shared, _table.Default, _time.Now.Ticks, permits, out decision);

    private void Refund(in RateLimitDecision decision) => _table.TryRefund(KeyTable.Shared, _time.Now.Ticks, decision.Permits, decision).Should().BeTrue();

    /// <summary>Admits all, but for a charge (the look before it is the first call) during which something else happens.</summary>
    private sealed class Meanwhile : LimitRule
    {
        private int _calls;

        public Func<bool>? Do
        {
            get => field;
            set => (field, _calls) = (value, 0);
        }

        public override long Most => 1000;

        public override bool TryCharge(long word, long instant, long permits, out long after)
        {
            after = word + permits;
            if (Do is not { } action || ++_calls != 2)
            {
                return true;
            }

            Do = null;
            return action();
        }

        public override long Charge(long word, long instant, long permits) => word + permits;

        public override long Refund(long word, long instant, long permits, in PastCharge charge) => word - permits;

        public override bool IsDrained(long word, long instant) => word == 0;

        public override long DrainedAt(long word, long instant) => instant;

        public override long AdmitsAt(long word, long instant, long permits) => instant;

        public override long AdmitsAt(long word, long instant, long permits, long ahead) => instant;

        public override long Remaining(long word, long instant) => 1000;

        public override long Used(long word, long instant) => word;
    }
}
