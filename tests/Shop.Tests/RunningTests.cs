using System.Diagnostics;
using System.Net;
using System.Net.Http.Json;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Options;

namespace Shop.Tests;

/// <summary>How the shop starts and stops.</summary>
public sealed partial class RunningTests
{
    [Fact]
    public async Task A_second_shop_takes_a_free_port_when_the_usual_one_is_taken()
    {
        await using WebApplication first = ShopApplication.Build("--Logging:LogLevel:Default=None");
        await first.StartAsync();
        await using WebApplication second = ShopApplication.Build("--Logging:LogLevel:Default=None");

        await second.StartAsync();

        second.Urls.Should().ContainSingle().Which.Should().StartWith("http://127.0.0.1:").And.NotBe(first.Urls.Single());
    }

    [Theory]
    [InlineData("http://0.0.0.0:5080")]
    [InlineData("http://*:5080")]
    [InlineData("http://127.0.0.1:0;http://192.0.2.1:5080")]
    [InlineData("5080")]
    public void An_address_that_others_can_reach_is_refused(string urls)
    {
        Action build = () => ShopApplication.Build("--urls", urls);

        build.Should().Throw<ArgumentException>().WithMessage($"*{urls}*");
    }

    [Fact]
    public async Task Settings_out_of_range_stop_the_start_and_are_all_named()
    {
        Func<Task> start = () => RunningShop.StartAsync("--OutboundPolicies:payments:CircuitBreaker:ConsecutiveFailures=0", "--OutboundPolicies:payments:CircuitBreaker:BreakDuration=0");

        await start.Should().ThrowAsync<OptionsValidationException>().WithMessage("*payments: CircuitBreaker.ConsecutiveFailures*payments: CircuitBreaker.BreakDuration*");
    }

    [Fact]
    public async Task A_shop_told_to_stop_answers_what_it_has_begun_and_exits_with_0()
    {
        using Process shop = StartProcess("--OutboundPolicies:payments:Budget:Total=00:00:10", "--RequestBudget:Maximum=00:00:20");
        try
        {
            string address = await ReadAddressAsync(shop);
            string paymentsAddress = await ReadAddressAsync(shop);
            Task<string> rest = shop.StandardOutput.ReadToEndAsync();
            using var client = new HttpClient { Timeout = TimeSpan.FromSeconds(15) };
            (await client.PostAsJsonAsync($"{paymentsAddress}/faults", new { mode = "slow", delayMs = 400 })).EnsureSuccessStatusCode();
            Task<HttpResponseMessage> order = RunningShop.PostOrderAsync(client, new Uri($"{address}/orders"), "one");
            await RealTime.UntilAsync(async () => (await client.GetFromJsonAsync<ChargeCount>($"{paymentsAddress}/charges"))!.Calls == 1, "the order is at payments");

            using Process kill = Process.Start("sh", ["-c", $"kill -TERM {shop.Id}"]);
            TimeSpan elapsed = await RealTime.MeasureAsync(() => shop.WaitForExitAsync());

            (await order).StatusCode.Should().Be(HttpStatusCode.Created);
            shop.ExitCode.Should().Be(0);
            elapsed.Should().BeLessThan(TimeSpan.FromSeconds(10));
            (await shop.StandardError.ReadToEndAsync()).Should().BeEmpty();
            await rest;
        }
        finally
        {
            shop.Kill(entireProcessTree: true);
        }
    }

    [Fact]
    public async Task A_shop_that_cannot_start_says_why_in_one_line_and_exits_with_1()
    {
        using Process shop = StartProcess("--OutboundPolicies:payments:Budget:Total=-00:00:05");
        try
        {
            await RealTime.MeasureAsync(() => shop.WaitForExitAsync());

            shop.ExitCode.Should().Be(1);
            (await shop.StandardError.ReadToEndAsync()).Trim().Should().StartWith("payments: Budget.Total must be").And.NotContain("\n");
        }
        finally
        {
            shop.Kill(entireProcessTree: true);
        }
    }

    [Theory]
    [InlineData("--export", "http://127.0.0.1:1")]
    [InlineData("--export=http://127.0.0.1:1")]
    public async Task An_export_of_a_shop_that_is_not_there_says_so_in_one_line_and_exits_with_1(params string[] settings)
    {
        using Process export = StartProcess(settings);
        try
        {
            await RealTime.MeasureAsync(() => export.WaitForExitAsync());

            export.ExitCode.Should().Be(1);
            (await export.StandardError.ReadToEndAsync()).Trim().Should().Contain("127.0.0.1:1").And.NotContain("\n");
            (await export.StandardOutput.ReadToEndAsync()).Should().BeEmpty();
        }
        finally
        {
            export.Kill(entireProcessTree: true);
        }
    }

    internal static Process StartProcess(params string[] settings) => Process.Start(
        new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "Shop.dll"), "--urls=http://127.0.0.1:0", .. settings])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;

    internal static async Task<string> ReadAddressAsync(Process shop)
    {
        string? line = null;
        await RealTime.MeasureAsync(async () => line = await shop.StandardOutput.ReadLineAsync());
        return Address().Match(line ?? "").Value;
    }

    [GeneratedRegex(@"http://[^ ]+")]
    private static partial Regex Address();
}
