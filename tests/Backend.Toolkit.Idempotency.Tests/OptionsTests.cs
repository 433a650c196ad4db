using System.Globalization;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Idempotency.Tests;

public sealed class OptionsTests
{
    private const string Short = "fifteen letters";

    public static TheoryData<Action<IdempotencyOptions>, string> Wrong => new()
    {
        { o => o.Lease = TimeSpan.FromMilliseconds(99), "orders: Lease must be between 00:00:00.1000000 and 1.00:00:00, but is 00:00:00.0990000." },
        { o => (o.Lease, o.Retention) = (TimeSpan.FromDays(1.1), TimeSpan.FromDays(2)), "orders: Lease must be between 00:00:00.1000000 and 1.00:00:00, but is 1.02:24:00." },
        { o => o.Retention = TimeSpan.FromSeconds(29), "orders: Retention must be between Lease (00:00:30) and 365.00:00:00, but is 00:00:29." },
        { o => o.Retention = TimeSpan.FromDays(366), "orders: Retention must be between Lease (00:00:30) and 365.00:00:00, but is 366.00:00:00." },
        { o => o.MaxOutcomeBytes = -1, "orders: MaxOutcomeBytes must be between 0 and 16777216, but is -1." },
        { o => o.MaxOutcomeBytes = 16_777_217, "orders: MaxOutcomeBytes must be between 0 and 16777216, but is 16777217." },
        { o => o.Duplicates = (DuplicatePolicy)7, "orders: Duplicates must be Reject or WaitAndReplay, but is 7." },
        { o => o.DuplicatesInTransaction = (DuplicatePolicy)7, "orders: DuplicatesInTransaction must be Reject or WaitAndReplay, but is 7." },
        { o => o.MaxWait = TimeSpan.Zero, "orders: MaxWait must be greater than 0 and at most 01:00:00, but is 00:00:00." },
        { o => o.MaxWait = TimeSpan.FromHours(2), "orders: MaxWait must be greater than 0 and at most 01:00:00, but is 02:00:00." },
        { o => o.Secret = Short, "orders: Secret must be null or at least 16 characters, but is 15 characters." },
        { o => o.PreviousSecret = Short, "orders: PreviousSecret must be null, empty or at least 16 characters, but is 15 characters." },
        { o => o.Secret = o.PreviousSecret = Short + "!", "orders: PreviousSecret must be another than Secret, but is the same." },
        { o => o.PreviousSecret = "", "orders: PreviousSecret must be another than Secret, but is the same." },
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void A_value_out_of_range_is_told_with_the_rule_and_the_value(Action<IdempotencyOptions> configure, string sentence)
    {
        var options = new IdempotencyOptions { Name = "orders" };
        configure(options);

        options.Problems().Should().Equal(sentence);
        Action make = () => _ = new IdempotentExecutor(new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions()), options);
        make.Should().Throw<OptionsValidationException>().Which.Failures.Should().Equal(sentence);
        sentence.Should().NotContain(Short);
    }

    [Fact]
    public void Defaults_and_bounds_are_valid()
    {
        IdempotencyOptions[] valid =
        [
            new(),
            new() { Lease = TimeSpan.FromMilliseconds(100), Retention = TimeSpan.FromMilliseconds(100), MaxOutcomeBytes = 0, MaxWait = TimeSpan.FromTicks(1) },
            new() { Lease = TimeSpan.FromDays(1), Retention = TimeSpan.FromDays(365), MaxOutcomeBytes = 16_777_216, MaxWait = TimeSpan.FromHours(1), Secret = Short + "!", PreviousSecret = "" },
        ];

        valid.SelectMany(options => options.Problems()).Should().BeEmpty();
    }

    [Theory]
    [InlineData(0, 1, "MemoryIdempotencyStoreOptions: MaxRecords must be between 1 and 100000000, but is 0.")]
    [InlineData(100_000_001, 1, "MemoryIdempotencyStoreOptions: MaxRecords must be between 1 and 100000000, but is 100000001.")]
    [InlineData(1, 0, "MemoryIdempotencyStoreOptions: MaxBytes must be between 1 and 1099511627776, but is 0.")]
    [InlineData(1, (1L << 40) + 1, "MemoryIdempotencyStoreOptions: MaxBytes must be between 1 and 1099511627776, but is 1099511627777.")]
    public void A_bound_of_the_store_out_of_range_is_told(int records, long bytes, string sentence)
    {
        var options = new MemoryIdempotencyStoreOptions { MaxRecords = records, MaxBytes = bytes };

        options.Problems().Should().Equal(sentence);
        Action make = () => _ = new MemoryIdempotencyStore(options);
        make.Should().Throw<OptionsValidationException>();
    }

    [Theory]
    [InlineData("th-TH")]
    [InlineData("tr-TR")]
    [InlineData("ar-SA")]
    public async Task Cultures_change_neither_sentences_nor_keys(string culture)
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        try
        {
            var time = new Microsoft.Extensions.Time.Testing.FakeTimeProvider(new DateTimeOffset(2026, 7, 1, 0, 0, 0, TimeSpan.Zero));
            var store = new TestStore(new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions(), time));
            var executor = new IdempotentExecutor(store, new IdempotencyOptions { Name = "I/İ", Subject = () => "ı" }, time);
            CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
            await using IdempotentOperation first = await executor.BeginAsync(new IdempotencyScope("I"), "TITLE", new byte[1]);
            string downstream = first.DownstreamKey("i");
            CultureInfo.CurrentCulture = CultureInfo.GetCultureInfo(culture);

            await using IdempotentOperation second = await executor.BeginAsync(new IdempotencyScope("I"), "TITLE", new byte[1]);
            await using IdempotentOperation lower = await executor.BeginAsync(new IdempotencyScope("I"), "title", new byte[1]);
            await using IdempotentOperation old = await executor.BeginAsync(new IdempotencyScope("I"), Guid.CreateVersion7(new DateTimeOffset(2026, 6, 1, 0, 0, 0, TimeSpan.Zero)).ToString(), new byte[1]);

            (second.Status, lower.Status, old.Status).Should().Be((IdempotencyStatus.InProgress, IdempotencyStatus.Started, IdempotencyStatus.KeyExpired));
            second.DownstreamKey("i").Should().Be(downstream);
            IdempotentExecutor.KeyProblem(new string('k', 1256)).Should().Be("An idempotency key must have 1 to 255 characters, but this one has 1256.");
            new IdempotencyOptions { MaxOutcomeBytes = -1 }.Problems().Should().Equal("IdempotencyOptions: MaxOutcomeBytes must be between 0 and 16777216, but is -1.");
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }
}
