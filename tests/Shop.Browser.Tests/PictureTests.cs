using System.Net.Http.Json;
using Microsoft.Playwright;

namespace Shop.Tests;

/// <summary>
/// The picture in samples/Shop/README.md. Where <c>SHOP_PICTURE</c> names a file, the picture is of three minutes and is kept there, with <c>-dark</c> and <c>-phone</c> beside it; else it is of a moment, and only looked at.
/// </summary>
public sealed class PictureTests(Browser browser) : IClassFixture<Browser>
{
    private const int MostBytes = 300_000;
    private const int Round = 5;

    [Fact]
    public async Task A_picture_of_an_incident_is_small_and_not_empty()
    {
        string? file = Environment.GetEnvironmentVariable("SHOP_PICTURE");
        int seconds = file is null ? 1 : 20;
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Window window = await browser.OpenAsync(), dark = await browser.OpenAsync(scheme: ColorScheme.Dark), phone = await browser.OpenAsync(width: 360, height: 740);
        IPage page = await window.VisitAsync(shop);
        byte[] before = await page.ScreenshotAsync();

        // Long enough for the first seconds, in which all is compiled, to be out of the picture.
        await PlayAsync(shop, "healthy", 1, 30, file is null ? 1 : 110);
        await PlayAsync(shop, "slow", 0.6, 30, seconds);
        await PlayAsync(shop, "failing", 0.4, 35, seconds);
        await PlayAsync(shop, "failing", 1, 30, seconds);
        (await shop.Client.PostAsJsonAsync("controls/customer", new { broken = true })).EnsureSuccessStatusCode();
        await PlayAsync(shop, "healthy", 1, 25, seconds);
        (await shop.Client.PostAsJsonAsync("controls/customer", new { broken = false })).EnsureSuccessStatusCode();
        await PlayAsync(shop, "slow", 0.2, 30, file is null ? 1 : 10);
        byte[] picture = await ShootAsync(window, shop, file);

        picture.Should().HaveCountLessThan(MostBytes).And.HaveCountGreaterThan(before.Length * 11 / 10, "charts show something");
        if (file is not null)
        {
            await ShootAsync(dark, shop, file.Replace(".png", "-dark.png", StringComparison.Ordinal));
            await ShootAsync(phone, shop, file.Replace(".png", "-phone.png", StringComparison.Ordinal));
        }
    }

    /// <summary>Begins when the load before has ended, and does not wait for its own end.</summary>
    private static async Task PlayAsync(RunningShop shop, string mode, double ratio, int perSecond, int seconds)
    {
        for (; seconds > 0; seconds -= Round)
        {
            var load = new Load(perSecond, Math.Min(seconds, Round));
            await RealTime.UntilAsync(async () => (await shop.Client.PostAsJsonAsync("controls/load", load)).IsSuccessStatusCode, "the load before has ended");
            (await shop.Client.PostAsJsonAsync("controls/payments", new { mode, ratio, delayMs = 120 })).EnsureSuccessStatusCode();
        }
    }

    private static async Task<byte[]> ShootAsync(Window window, RunningShop shop, string? file)
    {
        IPage page = await window.VisitAsync(shop);
        await page.Locator("#orders tbody tr").Nth(9).WaitForAsync();
        return await page.ScreenshotAsync(new PageScreenshotOptions { Path = file, FullPage = true });
    }
}
