@echo off
rem Installs what this folder holds, without a network, and opens the workshop:
rem
rem   start.bat              the exercises, in JupyterLab
rem   start.bat notebooks    the notebooks
rem   start.bat doctor       any other command of oocr
rem
rem Everything goes to oocr-workshop in your home folder (or where OOCR_HOME says).
setlocal
set "HERE=%~dp0"
set "PLACE=%OOCR_HOME%"
if not defined PLACE set "PLACE=%USERPROFILE%\oocr-workshop"

if exist "%HERE%UNFINISHED.txt" goto incomplete
if not exist "%HERE%MANIFEST.json" goto incomplete

set "PYTHON="
for %%V in (@VERSIONS@) do if not defined PYTHON py -%%V -c "import venv, ensurepip" >nul 2>nul && set "PYTHON=py -%%V"
for %%V in (@VERSIONS@) do if not defined PYTHON python -c "import sys; sys.exit(sys.version_info[:2] != tuple(map(int, '%%V'.split('.'))))" >nul 2>nul && set "PYTHON=python"
if not defined PYTHON goto nopython

rem A finished installation remembers the list of the stick that it came from.
fc /b "%HERE%MANIFEST.json" "%PLACE%\installed.json" >nul 2>nul && goto open
echo Installing into %PLACE%: about 1.5 GB, some minutes
if not exist "%PLACE%\course" mkdir "%PLACE%\course" || exit /b 1
if exist "%PLACE%\installed.json" del "%PLACE%\installed.json"
%PYTHON% -m venv --clear "%PLACE%\venv" || exit /b 1
"%PLACE%\venv\Scripts\python.exe" -m pip install --disable-pip-version-check -q --no-index -f "%HERE%wheels" -c "%HERE%course\constraints.txt" "oocr-lib[lab]" || exit /b 1
xcopy /e /i /q /y "%HERE%course" "%PLACE%\course" >nul || exit /b 1
copy /b /y "%HERE%MANIFEST.json" "%PLACE%\installed.json" >nul || exit /b 1

:open
cd /d "%PLACE%\course" || exit /b 1
if "%~1"=="" goto workshop
if "%~1"=="workshop" goto workshop
if "%~1"=="notebooks" goto notebooks
"%PLACE%\venv\Scripts\oocr.exe" %*
exit /b %errorlevel%

:workshop
"%PLACE%\venv\Scripts\python.exe" -m workshop.build --copy || exit /b 1
"%PLACE%\venv\Scripts\python.exe" -m jupyterlab lab\workshop
exit /b %errorlevel%

:notebooks
"%PLACE%\venv\Scripts\oocr.exe" lab
exit /b %errorlevel%

:incomplete
echo This folder is not complete. Copy it again, or finish it: oocr bundle 1>&2
exit /b 1

:nopython
echo No Python among: @VERSIONS@. Install one from the stick or from python.org, and start again. 1>&2
exit /b 1
