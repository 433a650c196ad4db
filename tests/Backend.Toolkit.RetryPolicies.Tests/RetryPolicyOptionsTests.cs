using System.Globalization;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.RetryPolicies.Tests;

public sealed class RetryPolicyOptionsTests
{
    [Fact]
    public void The_defaults_are_the_documented_ones_and_valid()
    {
        var options = new RetryPolicyOptions();
        var budget = new RetryBudgetOptions();

        options.Problems().Should().BeEmpty();
        budget.Problems().Should().BeEmpty();
        options.Should().BeEquivalentTo(new
        {
            Name = "",
            MaxAttempts = 3,
            Backoff = RetryBackoff.Exponential,
            BaseDelay = TimeSpan.FromMilliseconds(200),
            MaxDelay = TimeSpan.FromSeconds(10),
            Jitter = RetryJitter.Full,
            MaxDelayHint = TimeSpan.FromSeconds(30),
            ExpectedAttemptTime = TimeSpan.Zero,
            Budget = (RetryBudget?)null,
        });
        budget.Should().BeEquivalentTo(new
        {
            Name = "",
            Rule = RetryBudgetRule.Tokens,
            MaxTokens = 10,
            TokenRatio = 0.1,
            RetryRatio = 0.2,
            MinRetriesPerSecond = 10,
            Window = TimeSpan.FromSeconds(10),
        });
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    [InlineData(101)]
    [InlineData(int.MinValue)]
    public void Attempts_out_of_range_are_a_problem(int value) =>
        new RetryPolicyOptions { Name = "payments", MaxAttempts = value }.Problems().Should().Equal(
            $"payments: MaxAttempts must be between 1 and 100, but is {value}.");

    [Theory]
    [InlineData("-00:00:00.0010000")]
    [InlineData("1.00:00:00.0010000")]
    [InlineData("-10675199.02:48:05.4775808")]
    [InlineData("10675199.02:48:05.4775807")]
    public void Durations_out_of_range_are_problems(string text)
    {
        TimeSpan value = TimeSpan.Parse(text, CultureInfo.InvariantCulture);
        var options = new RetryPolicyOptions { Name = "payments", BaseDelay = value, MaxDelay = value, MaxDelayHint = value, ExpectedAttemptTime = value };

        options.Problems().Should().Equal(
            $"payments: BaseDelay must be between 0 and 1.00:00:00, but is {text}.",
            $"payments: MaxDelay must be between BaseDelay ({text}) and 1.00:00:00, but is {text}.",
            $"payments: MaxDelayHint must be greater than 0 and at most 1.00:00:00, but is {text}.",
            $"payments: ExpectedAttemptTime must be between 0 and 1.00:00:00, but is {text}.");
    }

    [Fact]
    public void A_cap_below_the_base_a_zero_hint_limit_and_unknown_enums_are_problems()
    {
        var options = new RetryPolicyOptions
        {
            BaseDelay = TimeSpan.FromSeconds(30),
            MaxDelayHint = TimeSpan.Zero,
            Backoff = (RetryBackoff)7,
            Jitter = (RetryJitter)(-1),
        };

        options.Problems().Should().Equal(
            "RetryPolicyOptions: Backoff must be Constant, Linear or Exponential, but is 7.",
            "RetryPolicyOptions: MaxDelay must be between BaseDelay (00:00:30) and 1.00:00:00, but is 00:00:10.",
            "RetryPolicyOptions: Jitter must be Full, Equal, Decorrelated or None, but is -1.",
            "RetryPolicyOptions: MaxDelayHint must be greater than 0 and at most 1.00:00:00, but is 00:00:00.");
    }

    [Theory]
    [InlineData(double.NaN)]
    [InlineData(-0.1)]
    [InlineData(double.PositiveInfinity)]
    [InlineData(double.NegativeInfinity)]
    [InlineData(double.MaxValue)]
    public void Ratios_out_of_range_are_problems(double value)
    {
        var options = new RetryBudgetOptions { Name = "shared", TokenRatio = value, RetryRatio = value };

        options.Problems().Should().Equal(
            string.Create(CultureInfo.InvariantCulture, $"shared: TokenRatio must be between 0.001 and 1000, but is {value}."),
            string.Create(CultureInfo.InvariantCulture, $"shared: RetryRatio must be between 0 and 10, but is {value}."));
    }

    [Fact]
    public void Budget_numbers_out_of_range_are_problems()
    {
        var options = new RetryBudgetOptions
        {
            Rule = (RetryBudgetRule)2,
            MaxTokens = 1001,
            TokenRatio = 0,
            MinRetriesPerSecond = -1,
            Window = TimeSpan.FromMilliseconds(999),
        };

        options.Problems().Should().Equal(
            "RetryBudgetOptions: Rule must be Tokens or Ratio, but is 2.",
            "RetryBudgetOptions: MaxTokens must be between 1 and 1000, but is 1001.",
            "RetryBudgetOptions: TokenRatio must be between 0.001 and 1000, but is 0.",
            "RetryBudgetOptions: MinRetriesPerSecond must be between 0 and 1000000, but is -1.",
            "RetryBudgetOptions: Window must be between 00:00:01 and 00:10:00, but is 00:00:00.9990000.");
    }

    [Fact]
    public void The_ends_of_every_range_are_valid()
    {
        new RetryPolicyOptions { MaxAttempts = 1, BaseDelay = TimeSpan.Zero, MaxDelay = TimeSpan.Zero, MaxDelayHint = new TimeSpan(1) }.Problems().Should().BeEmpty();
        new RetryPolicyOptions
        {
            MaxAttempts = 100,
            BaseDelay = TimeSpan.FromDays(1),
            MaxDelay = TimeSpan.FromDays(1),
            MaxDelayHint = TimeSpan.FromDays(1),
            ExpectedAttemptTime = TimeSpan.FromDays(1),
        }.Problems().Should().BeEmpty();
        foreach (RetryBudgetRule rule in Enum.GetValues<RetryBudgetRule>())
        {
            var least = new RetryBudgetOptions { Rule = rule, MaxTokens = 1, TokenRatio = 0.001, RetryRatio = 0, MinRetriesPerSecond = 0, Window = TimeSpan.FromSeconds(1) };
            var most = new RetryBudgetOptions { Rule = rule, MaxTokens = 1000, TokenRatio = 1000, RetryRatio = 10, MinRetriesPerSecond = 1_000_000, Window = TimeSpan.FromMinutes(10) };

            new RetryBudget(least).Tokens.Should().Be(rule == RetryBudgetRule.Tokens ? 1 : 0);
            new RetryBudget(most).Tokens.Should().Be(rule == RetryBudgetRule.Tokens ? 1000 : 600_000_000);
        }
    }

    [Fact]
    public void The_constructors_throw_all_problems_in_one_message()
    {
        Action policy = () => _ = new RetryPolicy(new RetryPolicyOptions { Name = "payments", MaxAttempts = 0, MaxDelayHint = TimeSpan.Zero });
        Action budget = () => _ = new RetryBudget(new RetryBudgetOptions { Name = "shared", MaxTokens = 0, Window = TimeSpan.Zero });

        policy.Should().Throw<OptionsValidationException>().WithMessage("*payments: MaxAttempts*payments: MaxDelayHint*").Which.Failures.Should().HaveCount(2);
        budget.Should().Throw<OptionsValidationException>().WithMessage("*shared: MaxTokens*shared: Window*").Which.Failures.Should().HaveCount(2);
    }

    [Theory]
    [InlineData("th-TH")]
    [InlineData("ar-SA")]
    [InlineData("de-DE")]
    public void Messages_are_the_same_in_every_culture(string culture)
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        try
        {
            CultureInfo.CurrentCulture = CultureInfo.GetCultureInfo(culture);

            new RetryBudgetOptions { TokenRatio = 1000.5, MaxTokens = -5 }.Problems().Should().Equal(
                "RetryBudgetOptions: MaxTokens must be between 1 and 1000, but is -5.",
                "RetryBudgetOptions: TokenRatio must be between 0.001 and 1000, but is 1000.5.");
            new RetryPolicyOptions { MaxDelay = TimeSpan.FromSeconds(-1.5) }.Problems().Should().Equal(
                "RetryPolicyOptions: MaxDelay must be between BaseDelay (00:00:00.2000000) and 1.00:00:00, but is -00:00:01.5000000.");
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [Fact]
    public void Null_delegates_are_refused()
    {
        ((Action)(() => new RetryPolicyOptions().RetryOn<int>(null!))).Should().Throw<ArgumentNullException>();
        ((Action)(() => new RetryPolicyOptions().DelayHintFor<int>(null!))).Should().Throw<ArgumentNullException>();
        ((Action)(() => _ = new RetryPolicy(null!))).Should().Throw<ArgumentNullException>();
        ((Action)(() => _ = new RetryBudget(null!))).Should().Throw<ArgumentNullException>();
    }
}
