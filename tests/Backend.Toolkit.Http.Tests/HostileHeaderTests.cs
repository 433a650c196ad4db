using System.Globalization;
using CsCheck;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Http.Tests;

/// <summary>What a hostile server may put into the headers that are read.</summary>
public sealed class HostileHeaderTests
{
    private static readonly string[] Seeds =
        ["0", "7", "2147483647", "2147483648", "99999999999999999999999", "-1", "1.5", "1e3", "\u0661\u0662", "Fri, 31 Dec 9999 23:59:59 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", "1", "01", "NaN", "\u0000", "5, 6"];

    private static readonly Gen<string> Value = Gen.Select(Gen.Int[0, 15].Select(index => Seeds[index]), Gen.String[0, 12], Gen.Int[0, 30], Gen.Int[0, 3]).Select((seed, noise, at, kind) => kind switch
    {
        0 => seed,
        1 => seed.Insert(Math.Min(at, seed.Length), noise),
        2 => seed.Remove(Math.Min(at, seed.Length)),
        _ => noise,
    });

    [Theory]
    [InlineData("th-TH")]
    [InlineData("tr-TR")]
    [InlineData("ar-SA")]
    public void Retry_After_is_nothing_or_a_wait_that_is_not_negative(string culture)
    {
        var time = new FakeTimeProvider();
        int heard = 0;

        Gen.Select(Value, Value).Sample(
            (retryAfter, date) =>
            {
                CultureInfo.CurrentCulture = new CultureInfo(culture);
                using var response = new HttpResponseMessage();
                response.Headers.TryAddWithoutValidation("Retry-After", retryAfter);
                response.Headers.TryAddWithoutValidation("Date", date);
                TimeSpan? wait = Wire.RetryAfter(response, time);
                if (wait is not null)
                {
                    Interlocked.Increment(ref heard);
                }

                return wait is null || wait >= TimeSpan.Zero;
            },
            iter: 100_000, threads: 1);

        heard.Should().BeGreaterThan(10_000, "the values are not all garbage");
    }

    [Theory]
    [InlineData("th-TH")]
    [InlineData("tr-TR")]
    [InlineData("ar-SA")]
    public void No_Retry_is_exactly_a_one(string culture) => Value.Sample(
        value =>
        {
            CultureInfo.CurrentCulture = new CultureInfo(culture);
            using var response = new HttpResponseMessage(System.Net.HttpStatusCode.BadGateway);
            bool taken = response.Headers.TryAddWithoutValidation("No-Retry", value);
            return Wire.SaysNoRetry(response) == (taken && value == "1");
        },
        iter: 100_000, threads: 1);

    [Theory]
    [InlineData("Retry-After")]
    [InlineData("No-Retry")]
    [InlineData("Date")]
    public async Task A_thousand_values_and_a_megabyte_are_garbage_and_no_work(string header)
    {
        string[] values = ["1", new string('1', 1_000_000), new string(' ', 1_000_000) + "x", "Sun, " + new string('0', 1_000_000)];
        foreach (string value in values)
        {
            using var outbound = new Outbound();
            outbound.Time.PassesAtOnce = true;
            outbound.Server.Answers(number =>
            {
                var reply = new Reply(number == 3 ? 200 : 503);
                reply.Headers.TryAddWithoutValidation(header, Enumerable.Repeat(value, value.Length == 1 ? 1_000 : 1));
                return reply;
            });

            using HttpResponseMessage response = await outbound.GetAsync().Soon();

            outbound.Server.Count.Should().Be(header == "Retry-After" && value[^1] == '1' && value.Length > 1 ? 1 : 3);
        }
    }

    [Theory]
    [InlineData("th-TH")]
    [InlineData("tr-TR")]
    [InlineData("ar-SA")]
    public async Task What_is_sent_is_the_same_under_any_culture(string culture)
    {
        CultureInfo.CurrentCulture = new CultureInfo(culture);
        using var outbound = new Outbound(o => o.AttachIdempotencyKey = true);
        outbound.Server.Answers(503);

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("POST"));

        outbound.Server.Arrivals.Select(arrival => (arrival.Header("Timeout-Budget"), arrival.Header("Retry-Attempt"))).Should().Equal(("9990", null), ("9990", "2"), ("9990", "3"));
        outbound.Server.Arrivals[0].Header("Idempotency-Key").Should().MatchRegex("^\"[0-9a-f-]{36}\"$");
    }
}
